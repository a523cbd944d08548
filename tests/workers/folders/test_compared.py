"""Models of types that nobody has compared with transformers are told of."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_server.workers.folders.known_types import Library, knows
from mlx_server.workers.folders.unread.compared import Part, compared_types, comparison_note
from mlx_server.workers.folders.unread.keys import usual_config


@pytest.mark.parametrize(
    ("part", "kind", "note"),
    [
        ("mlx_lm", "llama", []),
        ("mlx_vlm", "pixtral", []),
        ("mlx_vlm", "flint", []),
        ("embeddings", "bert", []),
        ("rerankers", "modernbert", []),
        ("mlx_vlm", "llama", ["llama: never compared with transformers here"]),
        ("mlx_lm", "openelm", ["openelm: transformers has no such type to compare with"]),
    ],
)
def test_a_type_that_was_not_compared_is_told_of(part: Part, kind: str, note: list[str]) -> None:
    assert comparison_note({"model_type": kind}, part) == note


@pytest.mark.parametrize("part", ["mlx_lm", "mlx_vlm"])
def test_what_was_compared_is_known_to_both_libraries(part: Library) -> None:
    assert all(knows(part, {"model_type": kind}) and usual_config(kind) for kind in compared_types()[part])


@pytest.mark.model
def test_doctor_and_models_show_tell_it_too(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    def said(*arguments: object) -> str:
        command = [sys.executable, "-m", "mlx_server.app", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout

    note = "openelm: transformers has no such type to compare with"
    for kind in ("llama", "openelm"):
        folder = tmp_path / kind
        folder.mkdir()
        for file in tiny_model("llama").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": kind}))
        told = (kind == "openelm", kind == "openelm")
        assert (note in said("models", "show", "--unread", folder), note in said("doctor", "--json", folder)) == told
