from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from mlx_server.workers.folders.voices import voices_of


def test_voices_are_files_or_named(tmp_path: Path) -> None:
    assert voices_of(tmp_path, {}) == ()
    assert voices_of(tmp_path, {"voices": ["z"]}) == ("z",)
    (tmp_path / "voices").mkdir()
    for name in ("b.safetensors", "a.safetensors", "README.md"):
        (tmp_path / "voices" / name).touch()
    assert voices_of(tmp_path, {}) == ("a", "b")
    assert voices_of(tmp_path, {"talker_config": {"spk_id": {"Ann": 3}}}) == ("Ann",)


def test_voices_of_kokoro_are_those_whose_language_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "voices").mkdir()
    for name in ("af_one", "bm_two", "zf_three"):
        (tmp_path / "voices" / f"{name}.safetensors").touch()
    more = ("zf_three",) if find_spec("misaki") else ()
    assert voices_of(tmp_path, {"plbert": {}}) == ("af_one", "bm_two", *more)
