"""Folders that can't be served are told of in one line that says what to do, before any worker starts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

import pytest
from support.running.servers import ROOT, Server
from support.tiny.broken_folders import BROKEN, VISION, Broken
from support.tiny.folders import LLAMA, make, make_gguf

from mlx_server.app.catalog.errors import NotServable
from mlx_server.app.catalog.served_type import resolve
from mlx_server.app.config.settings import ModelSettings
from mlx_server.workers.folders.known_types import Library, installed, knows, modules, remapping
from mlx_server.workers.hub.access import HubAccess

EXIT_MODEL = 3
SOON_S = 10.0
"""A second, when nobody else uses the machine."""


def run(*arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlx_server.app", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=timeout)


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN)
def test_broken_folder_is_told_of_in_a_line_that_says_what_to_do(case: Broken, tmp_path: Path) -> None:
    folder = case.make(tmp_path)
    with pytest.raises(NotServable) as raised:
        resolve(ModelSettings(str(folder), case.served_as), HubAccess.from_environment())
    line = str(raised.value)
    assert line.startswith(f"{folder} ")
    assert "\n" not in line
    for part in case.told:
        assert part in line


@pytest.mark.parametrize("name", ["an empty folder", "no model type", "no tokenizer", "weights that are cut off"])
def test_launch_ends_with_that_line_and_show_says_the_same(name: str, tmp_path: Path) -> None:
    folder = BROKEN[name].make(tmp_path)
    done = run("launch", "--port", 0, "--model-path", folder, timeout=SOON_S)
    assert done.returncode == EXIT_MODEL
    [line] = done.stderr.splitlines()
    assert line.startswith(f"Error: {folder} ")
    for part in BROKEN[name].told:
        assert part in line
    shown = run("models", "show", folder)
    assert (shown.returncode, shown.stderr.splitlines()) == (EXIT_MODEL, [line])


def test_load_says_the_same_and_starts_no_worker(launch: Callable[..., Server], tmp_path: Path) -> None:
    root = tmp_path / "models"
    for number, case in enumerate(BROKEN.values()):
        if case.served_as is None:
            (root / str(number)).mkdir(parents=True)
            case.make(root / str(number))
    server = launch("--models-dir", root, wait=False, env={"HF_HUB_CACHE": str(tmp_path / "cache")})
    server.wait_listening()
    seen = 0
    for number, case in enumerate(BROKEN.values()):
        if not (root / str(number) / "m" / "config.json").is_file():
            continue
        answer = server.post(f"/v1/models/{number}/m/load", b"")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "model_not_servable"), case
        for part in case.told:
            assert part in answer.json()["detail"]
        seen += 1
    assert seen > 20
    assert server.worker_pids() == []


def test_draft_model_is_judged_too(tmp_path: Path) -> None:
    draft = BROKEN["no tokenizer"].make(tmp_path)
    done = run("launch", "--port", 0, "--model-path", make(tmp_path / "whole"), "--draft-model", draft, timeout=SOON_S)
    assert done.returncode == EXIT_MODEL
    assert done.stderr.startswith(f"Error: {draft} is not a model: it has no tokenizer")


def test_whole_folder_is_no_fault_and_what_lies_beside_it_does_no_harm(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", {**LLAMA, "quantization_config": {"group_size": 64, "bits": 4}})
    for name in ("._model.safetensors", "._config.json", "._tokenizer.json", "consolidated.safetensors"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"w": "model-00001-of-00009.safetensors"}}')
    assert resolve(ModelSettings(str(folder)), HubAccess.from_environment()) == "lm"


@pytest.mark.parametrize("content", [b"", b"GGUF", b"version https://git-lfs.github.com/spec/v1\n"])
def test_broken_gguf_file_is_told_of_before_a_worker_starts(content: bytes, tmp_path: Path) -> None:
    path = make_gguf(tmp_path / "small.gguf")
    path.write_bytes(content)
    for model_type in (None, "lm"):
        with pytest.raises(NotServable, match=r"small\.gguf is not a model"):
            resolve(ModelSettings(str(path), model_type), HubAccess.from_environment())


@pytest.mark.parametrize("served_as", ["lm", "vlm", "embeddings", "rerank"])
def test_nothing_of_this_imports_mlx(served_as: str, tmp_path: Path) -> None:
    found = {"embeddings": {"model_type": "bert"}, "rerank": {"model_type": "qwen3"}}.get(served_as, VISION)
    folder = make(tmp_path / "m", found)
    code = (
        "import sys; from pathlib import Path; from mlx_server.workers.folders.servable import check_servable\n"
        f"check_servable(Path({str(folder)!r}), {served_as!r})\n"
        "print(sorted({'mlx', 'mlx_lm', 'mlx_vlm', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


LOOKED_UP: Mapping[Library, str] = {"mlx_lm": "mlx_lm.utils", "mlx_vlm": "mlx_vlm.utils"}


@pytest.mark.parametrize("library", LOOKED_UP)
def test_known_types_are_those_of_the_library(library: Library) -> None:
    """Read without importing it, and held to what it says itself."""
    utils = import_module(LOOKED_UP[library])
    assert remapping(library) == utils.MODEL_REMAPPING
    assert installed(library)
    assert {"llama", "qwen3"} <= modules(library)
    assert all(knows(library, {"model_type": name}) for name in utils.MODEL_REMAPPING)
    assert not knows(library, {"model_type": "opera"})
    assert not knows(library, {})
