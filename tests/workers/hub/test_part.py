"""A part of a repository on a hub of this machine: some of the weights, and of the others the headers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.running.hub import LocalHub, Repo, running

from mlx_server.workers.folders.safetensors_header import read_header
from mlx_server.workers.hub.access import HubAccess
from mlx_server.workers.hub.errors import DownloadBroken, HubError, HubOffline
from mlx_server.workers.hub.part import Part, fetch_part
from mlx_server.workers.hub.snapshot import fetch

ID = "someone/layers"
COUNT = 300_000
FIRST, SECOND = "model-1.safetensors", "model-2.safetensors"


def weights(name: str, more: str = "") -> bytes:
    """A file with one tensor, and `more` in its header."""
    tensor = {"dtype": "U8", "shape": [COUNT], "data_offsets": [0, COUNT]}
    header = json.dumps({"__metadata__": {"more": more}, name: tensor}).encode()
    return len(header).to_bytes(8, "little") + header + name.encode()[:1] * COUNT


INDEX = json.dumps({"weight_map": {"a": FIRST, "b": SECOND}}).encode()
FILES = {
    "config.json": b"{}",
    "model.safetensors.index.json": INDEX,
    FIRST: weights("a"),
    SECOND: weights("b", more="x" * 100_000),
}
"""The second one's header is longer than headers usually are."""


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with running(LocalHub(Repo(ID, dict(FILES)))) as local:
        yield local


def ignore(done: int, total: int) -> None:
    pass


def first_alone(folder: Path) -> set[str]:
    """What is read, once the headers have been looked at."""
    assert [list(read_header(folder / name)) for name in (FIRST, SECOND)] == [["a"], ["b"]]
    return {FIRST}


def fetched(
    hub: LocalHub, tmp_path: Path, scratch: str = "scratch", read: Callable[[Path], set[str]] = first_alone
) -> Path:
    folder = tmp_path / scratch
    folder.mkdir(exist_ok=True)
    return fetch_part(ID, HubAccess(hub.url, None, tmp_path / "hub"), ignore, Part(folder, read))


def whole(hub: LocalHub, tmp_path: Path) -> Path:
    return fetch(ID, HubAccess(hub.url, None, tmp_path / "hub"), ignore)


def test_what_is_read_is_there_and_of_the_rest_the_headers(hub: LocalHub, tmp_path: Path) -> None:
    folder = fetched(hub, tmp_path)
    assert folder == tmp_path / "scratch"
    assert sorted(file.name for file in folder.iterdir()) == sorted(FILES)
    assert [(folder / name).read_bytes() for name in ("config.json", FIRST)] == [FILES["config.json"], FILES[FIRST]]
    assert list(read_header(folder / SECOND)) == ["b"]
    assert (folder / SECOND).stat().st_blocks * 512 < COUNT


def test_weights_by_other_names_come_in_part_too(tmp_path: Path) -> None:
    files = {"config.json": b"{}", "weights.1.safetensors": FILES[FIRST], "weights.2.safetensors": FILES[SECOND]}
    with running(LocalHub(Repo(ID, files))) as hub:
        folder = fetched(hub, tmp_path, read=lambda _: {"weights.1.safetensors"})
        assert sorted(file.name for file in folder.iterdir()) == sorted(files)
        assert hub.sent < 2 * COUNT
        snapshot = fetched(hub, tmp_path, "again", read=lambda _: {"weights.1.safetensors", "weights.2.safetensors"})
    assert {file.name: file.read_bytes() for file in snapshot.iterdir()} == files
    assert snapshot.parent.name == "snapshots"


def test_what_is_all_read_is_a_folder_of_the_hubs_cache(hub: LocalHub, tmp_path: Path) -> None:
    assert fetched(hub, tmp_path, read=lambda _: {FIRST, SECOND}) == whole(hub, tmp_path)


def test_what_is_there_is_not_brought_again_and_the_rest_comes_when_all_is_wanted(
    hub: LocalHub, tmp_path: Path
) -> None:
    fetched(hub, tmp_path)
    hub.sent = 0
    fetched(hub, tmp_path, "again")
    assert hub.sent < COUNT
    folder = whole(hub, tmp_path)
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert hub.sent < 2 * COUNT


def test_without_a_connection_only_what_is_whole_is_given(hub: LocalHub, tmp_path: Path) -> None:
    fetched(hub, tmp_path)
    hub.status = 503
    with pytest.raises(HubOffline):
        fetched(hub, tmp_path, "again")
    hub.status = 0
    folder = whole(hub, tmp_path)
    for status in (503, 429, 401):
        hub.status = status
        assert fetched(hub, tmp_path, "again") == folder


def test_a_hub_that_knows_no_ranges_sends_more(hub: LocalHub, tmp_path: Path) -> None:
    hub.repos[ID].ranges = False
    assert list(read_header(fetched(hub, tmp_path) / SECOND)) == ["b"]


def test_what_is_no_file_of_tensors_is_told(hub: LocalHub, tmp_path: Path) -> None:
    hub.repos[ID].files[SECOND] = b"\xff" * COUNT
    with pytest.raises(DownloadBroken, match=rf"{SECOND} did not arrive whole: it is no safetensors file"):
        fetched(hub, tmp_path)


def test_a_file_that_did_not_come_is_told_and_not_a_hole(hub: LocalHub, tmp_path: Path) -> None:
    def read(folder: Path) -> set[str]:
        del hub.repos[ID].files[FIRST]
        return {FIRST}

    with pytest.raises(HubError):
        fetched(hub, tmp_path, read=read)


def test_a_cache_that_can_not_be_written_is_told(hub: LocalHub, tmp_path: Path) -> None:
    (tmp_path / "hub").touch()
    with pytest.raises(HubError, match=r"someone/layers can't be kept in .*hub: Not a directory"):
        fetched(hub, tmp_path)
