"""What is printed once the model answers."""

import base64
import io
import json
import logging
import re
import shlex

import pytest
from msgspec.structs import replace
from PIL import Image
from rich.console import Console

from mlx_server.app.cli.console import ConsoleHandler, StartDisplay, example
from mlx_server.app.config.settings import ModelType
from mlx_server.schemas.internal.messages import Loading, ModelFacts
from mlx_server.schemas.openai.chat import ChatRequest
from mlx_server.schemas.openai.completions import CompletionRequest
from mlx_server.schemas.openai.embeddings import EmbeddingsRequest
from mlx_server.schemas.scores import RerankRequest

FACTS = ModelFacts(8, 1024, 1000, 1 << 20, "bert", "a device", max_model_len=512)


@pytest.mark.parametrize(
    ("model_type", "chats", "path", "request_type"),
    [
        ("lm", True, "chat/completions", ChatRequest),
        ("vlm", True, "chat/completions", ChatRequest),
        ("lm", False, "completions", CompletionRequest),
        ("vlm", False, "completions", CompletionRequest),
        ("embeddings", True, "embeddings", EmbeddingsRequest),
        ("rerank", True, "rerank", RerankRequest),
    ],
)
def test_the_first_request_is_one_that_the_model_answers(
    model_type: ModelType, chats: bool, path: str, request_type: type
) -> None:
    console = Console(file=io.StringIO(), width=80)
    StartDisplay(console, "http://localhost:8000").of("a/model", model_type).ready(replace(FACTS, chats=chats))
    assert isinstance(console.file, io.StringIO)
    command = shlex.split(console.file.getvalue().splitlines()[-1])
    assert command[:2] == ["curl", f"http://localhost:8000/v1/{path}"]
    assert json.loads(command[-1]).keys() <= set(request_type.__struct_encode_fields__)


def test_with_several_models_the_address_is_said_once_and_requests_name_theirs() -> None:
    console = Console(file=io.StringIO(), width=80)
    display = StartDisplay(console, "http://localhost:8000", names=True)
    for name in ("a", "b/c"):
        display.of(name, "lm").ready(FACTS)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert sum("Listening on" in line for line in lines) == 1
    bodies = [json.loads(shlex.split(line)[-1]) for line in lines if "curl" in line]
    assert [body["model"] for body in bodies] == ["a", "b/c"]
    assert all(body["messages"] for body in bodies)


def test_model_that_sees_is_shown_a_picture() -> None:
    path, body = example("vlm", replace(FACTS, media=("image",)))
    assert path == "chat/completions"
    picture = json.loads(body)["messages"][0]["content"][1]["image_url"]["url"].removeprefix("data:image/png;base64,")
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        assert image.convert("RGB").getcolors() == [(64 * 64, (224, 32, 32))]
    assert example("vlm", FACTS) == example("lm", FACTS)


class Screen:
    """What a terminal has been sent."""

    def __init__(self) -> None:
        self.file = io.StringIO()
        self.console = Console(file=self.file, width=100, force_terminal=True, _environ={})

    def since(self, then: int) -> str:
        """Without control sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.file.getvalue()[then:])


def test_bar_of_a_phase_knows_nothing_of_the_phase_before() -> None:
    screen = Screen()
    display = StartDisplay(screen.console, "http://localhost:8000")
    model = display.of("m", "lm")
    model.loading(Loading("importing"))
    assert display._progress is not None
    display._progress.refresh()
    assert "importing" in screen.since(0)
    assert "bytes" not in screen.since(0)
    assert " of " not in screen.since(0)
    model.loading(Loading("loading weights", 0, 538_100_000))
    model.loading(Loading("loading weights", 538_100_000, 538_100_000))
    display._progress.refresh()
    assert "538 MB of 538 MB" in screen.since(0)
    [full] = display._progress.tasks
    assert full.finished
    model.loading(Loading("warming up"))
    mark = len(screen.file.getvalue())
    display._progress.refresh()
    assert "m: warming up" in screen.since(mark)
    assert "538" not in screen.since(mark)
    [moving] = display._progress.tasks
    assert not moving.finished
    display.close()


def test_lines_of_the_log_stand_above_the_bar() -> None:
    screen = Screen()
    display = StartDisplay(screen.console, "http://localhost:8000")
    handler = ConsoleHandler(screen.console)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    display.of("m", "lm").loading(Loading("importing"))
    said = "a [bold]line[/] :smile: " + "x" * 200
    handler.handle(logging.makeLogRecord({"levelname": "INFO", "msg": said}))
    display.close()
    assert f"INFO {said}" in [line.rpartition("\r")[2] for line in screen.since(0).split("\n")]
