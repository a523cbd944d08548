import json
from importlib.metadata import version
from pathlib import Path

import pytest

from mlx_server.workers.engine.decode.probe import Batching
from mlx_server.workers.engine.embed.text_embedding import Embeds
from mlx_server.workers.engine.runtime.kept_trials import FOLDER, LIBRARIES, KeptTrials

PRINTS = ("model", "files")


def _file(cache_dir: Path) -> Path:
    [file] = (cache_dir / FOLDER).iterdir()
    return file


def test_what_was_shown_is_known_to_the_next_load(tmp_path: Path) -> None:
    first = KeptTrials.of(tmp_path, *PRINTS)
    assert first.get("batching", Batching) is None
    first.put("batching", Batching.JOINT)
    first.put("embeddings", Embeds(64, 576))
    second = KeptTrials.of(tmp_path, *PRINTS)
    assert second.get("batching", Batching) is Batching.JOINT
    assert second.get("embeddings", Embeds) == Embeds(64, 576)


@pytest.mark.parametrize("prints", [("other", "files"), ("model", "other"), ("model",)])
def test_another_model_or_other_files_have_not_been_tried(tmp_path: Path, prints: tuple[str, ...]) -> None:
    KeptTrials.of(tmp_path, *PRINTS).put("vocabulary", True)
    assert KeptTrials.of(tmp_path, *prints).get("vocabulary", bool) is None


@pytest.mark.parametrize("library", LIBRARIES)
def test_another_version_of_a_library_has_not_been_tried_with(tmp_path: Path, library: str) -> None:
    KeptTrials.of(tmp_path, *PRINTS).put("vocabulary", True)
    other = KeptTrials.of(tmp_path, *PRINTS, version_of=lambda name: "0" if name == library else version(name))
    assert other.get("vocabulary", bool) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"vocabulary": tr', b'{"vocabulary": "yes"}', b"\xff\x00"])
def test_a_damaged_file_is_as_none(tmp_path: Path, damage: bytes) -> None:
    KeptTrials.of(tmp_path, *PRINTS).put("vocabulary", True)
    _file(tmp_path).write_bytes(damage)
    again = KeptTrials.of(tmp_path, *PRINTS)
    assert again.get("vocabulary", bool) is None
    again.put("vocabulary", True)
    assert KeptTrials.of(tmp_path, *PRINTS).get("vocabulary", bool) is True


def test_nothing_is_left_beside_the_file(tmp_path: Path) -> None:
    kept = KeptTrials.of(tmp_path, *PRINTS)
    kept.put("a", 1)
    kept.put("b", 2)
    assert json.loads(_file(tmp_path).read_text()) == {"a": 1, "b": 2}


def test_a_folder_that_can_not_be_written_does_no_harm(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("no folder")
    kept = KeptTrials.of(place, *PRINTS)
    kept.put("vocabulary", True)
    assert kept.get("vocabulary", bool) is True
    assert KeptTrials.of(place, *PRINTS).get("vocabulary", bool) is None
