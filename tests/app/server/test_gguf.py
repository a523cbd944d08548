"""Servers of .gguf files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest
from support.running.servers import Server
from support.tiny.gguf_files import spread, write_gguf

from mlx_server.app.cli.cli import EXIT_MODEL
from mlx_server.workers.engine.loading.loading import read_model
from mlx_server.workers.folders.gguf import convert_gguf

PROMPT = [5, 6, 7]


def _discard(_: str) -> None:
    pass


@pytest.mark.model
def test_answer_ends_with_the_turn(launch: Callable[..., Server], tmp_path: Path) -> None:
    roles = ("eot", "eom")
    plain = convert_gguf(write_gguf(tmp_path / "plain.gguf"), tmp_path / "cache", _discard)
    first = int(mx.argmax(read_model(plain, "float32")[0](mx.array([PROMPT]))[0, -1]))
    flags: list[object] = []
    for role in roles:
        path = write_gguf(tmp_path / f"{role}.gguf", metadata={f"tokenizer.ggml.{role}_token_id": first})
        flags += ["--model", f"{role}={path}"]
    server = launch(*flags, "--cache-dir", tmp_path / "cache")
    for role in roles:
        asked = {"model": role, "temperature": 0, "max_tokens": 4}
        ended, going_on = (server.complete(PROMPT, **asked, ignore_eos=on).json()["choices"][0] for on in (False, True))
        assert (ended["text"], ended["finish_reason"]) == ("", "stop"), role
        assert going_on["finish_reason"] == "length", role


@pytest.mark.model
def test_what_is_not_read_of_a_file_is_told_when_it_is_loaded(launch: Callable[..., Server], tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "odd.gguf", metadata={"tokenizer.ggml.pre": "nonesuch"})
    server = launch("--model-path", path, "--cache-dir", tmp_path / "cache")
    assert "how tokenizer.ggml.pre 'nonesuch' splits texts is not known here" in " ".join(server.output().split())


def test_model_that_lacks_parts_is_refused_at_once(launch: Callable[..., Server], tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", parts_of=4)
    first, second, third = spread(tmp_path / "tiny.gguf", 3)
    second.unlink()
    server = launch("--model-path", third, "--cache-dir", tmp_path / "cache", wait=False)
    assert server.process.wait(60) == EXIT_MODEL
    assert f"these parts of the model are missing beside it: {second.name}" in " ".join(server.output().split())
    assert first.is_file()
    assert not (tmp_path / "cache").exists()
