"""A plain installation that is asked for more than it brings says what to install, in one line that works."""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from support.running.servers import ROOT, Server

from mlx_server.workers.extras import install_line

WITHOUT = ROOT / "tests" / "support" / "without"
SHAPES = ROOT / "tests" / "shapes" / "model"
EXIT_MODEL = 3


def asked_for(line: str) -> Iterator[str]:
    """The packages that a command of pip's brings."""
    words = shlex.split(line)
    assert words[:2] == ["pip", "install"]
    return (Requirement(word).name for word in words[2:])


@pytest.mark.parametrize("kind", ["vlm", "embeddings"])
@pytest.mark.parametrize("missing", ["mlx_vlm PIL cv2 miniaudio", "PIL"])
def test_what_to_install_is_one_line(launch: Callable[..., Server], minilm: Path, kind: str, missing: str) -> None:
    env = {"PYTHONPATH": str(WITHOUT), "WITHOUT_PACKAGES": missing}
    model = SHAPES if kind == "vlm" else minilm
    server = launch("--model-path", model, "--model-type", kind, env=env, wait=False)
    assert server.process.wait(60) == EXIT_MODEL
    output = server.output()
    [error] = [line for line in output.splitlines() if line.startswith("Error:")]
    assert install_line("vlm") in error
    assert "Traceback" not in output


def test_line_names_packages_that_an_index_has() -> None:
    assert set(asked_for(install_line("vlm"))) == {"mlx-vlm", "miniaudio", "opencv-python", "pillow"}
    assert "'mlx[cpu]>=" in install_line("cpu", "linux")
    assert "'mlx[cuda13]>=" in install_line("cuda", "linux")
