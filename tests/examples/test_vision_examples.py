"""The notebooks about pictures, on the tiny model that knows shapes."""

from collections.abc import Iterator

import pytest
from support.examples import run_notebook
from support.running.servers import ROOT, Server, serving

SHAPES = ROOT / "tests" / "shapes" / "model"


@pytest.fixture(scope="module")
def shapes_server() -> Iterator[Server]:
    with serving("--model-type", "vlm", "--model-path", SHAPES) as server:
        yield server


@pytest.mark.model
def test_notebook_of_vision_sees_shapes(shapes_server: Server) -> None:
    shown = run_notebook("vision_examples.ipynb", VISION=shapes_server)
    for found in (
        "Colour: red",
        "Side: left",
        "PNG: blue",
        "JPEG: blue",
        "Large: blue",
        'Found: {"colour": "red", "shape": "circle"}',
        'Found: {"colour": "blue", "shape": "square"}',
        "First: red",
        "Refused: messages[0].content[0] - ",
    ):
        assert found in shown, shown


@pytest.mark.model
def test_notebook_of_embedded_pictures_finds_the_like(shapes_server: Server) -> None:
    shown = run_notebook("vlm_embeddings_examples.ipynb", VISION=shapes_server)
    for found in ("Dimensions: 128", "Shape: (4, 128)", "is nearest to: a ", "Most alike: red circle, top left"):
        assert found in shown, shown
    own = [row.split()[-4:][number] for number, row in enumerate(rows_of(shown))]
    assert own == ["+1.000"] * 4, shown


def rows_of(shown: str) -> list[str]:
    """The table of how alike the pictures are."""
    return [line for line in shown.splitlines() if line.count("+") + line.count("-") >= 4 and "," in line]
