"""docs/install.md: the smaller installation for models that see, in an environment made as the page says."""

import base64
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.running.clients import sdk
from support.running.servers import ROOT, Server, serving
from support.tiny.sight import SHAPES

PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
SMALLER = ROOT / "requirements-vlm.txt"
UV = Path(sys.executable).parent / "uv"
INSTALL_S = 900


def requirements() -> set[str]:
    lines = (line.partition("#")[0].strip() for line in SMALLER.read_text(encoding="utf-8").splitlines())
    return {line for line in lines if line}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that the page's commands have filled."""
    folder = tmp_path_factory.mktemp("smaller") / "env"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    python = folder / "bin" / "python"
    [commands] = [code for code in re.findall(r"^```bash\n(.*?)^```", PAGE, re.M | re.S) if SMALLER.name in code]
    for line in commands.strip().splitlines():
        # As uv does it: it keeps what it has once fetched. Editable: the clone gets no folder of a build.
        what = shlex.split(line.replace("pip install .", "pip install -e ."), comments=True)
        subprocess.run([UV, *what, "--quiet", "--python", python], check=True, cwd=ROOT, timeout=INSTALL_S)
    return python


@pytest.fixture(scope="module")
def server(python: Path) -> Iterator[Server]:
    with serving("--model-path", SHAPES, python=python) as server:
        yield server


def test_another_backend_is_installed_once_where_one_is_already(tmp_path: Path) -> None:
    def installs(backend: str) -> list[str]:
        done = subprocess.run(
            ["make", "--dry-run", "--silent", "--file", ROOT / "Makefile", "run", f"BACKEND={backend}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return re.findall(r"pip install .* -e '\.\[(.*)\]'", done.stdout)

    (tmp_path / ".venv").mkdir()
    for name in ("pyproject.toml", ".venv/.created", ".venv/.installed-cpu"):
        (tmp_path / name).touch()
    assert (installs("cpu"), installs("cuda")) == ([], ["audio,vlm,cuda"])
    (tmp_path / ".venv" / ".installed-cpu").rename(tmp_path / ".venv" / ".installed-cuda")
    assert (installs("cpu"), installs("cuda")) == (["audio,vlm,cpu"], [])


def test_smaller_list_is_the_extra_and_what_its_own_packages_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = {
        line.replace("opencv-python", "opencv-python-headless") for line in project["optional-dependencies"]["vlm"]
    }
    assert requirements() - extra == {"cffi>=1.12"}
    assert extra <= requirements()


def test_smaller_installation_leaves_out_what_is_never_imported(python: Path) -> None:
    for module in ("datasets", "pyarrow", "pandas", "scipy", "mlx_audio", "fastapi", "cryptography", "torch"):
        done = subprocess.run([python, "-c", f"import {module}"], capture_output=True, text=True)
        assert "ModuleNotFoundError" in done.stderr, module
    subprocess.run([python, "-c", "import cv2, miniaudio"], check=True)


@pytest.mark.model
def test_smaller_installation_answers_about_a_picture(server: Server) -> None:
    picture = base64.b64encode((ROOT / "examples" / "data" / "red_circle.png").read_bytes()).decode()
    shown: Any = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
    question: Any = {"type": "text", "text": "Describe the picture."}
    message: Any = {"role": "user", "content": [shown, question]}
    with sdk(server) as client:
        answer = client.chat.completions.create(model="any", messages=[message], temperature=0)
    assert answer.choices[0].message.content == "a red circle at the top left"
