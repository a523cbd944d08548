"""What was answered for is on the disk by then: content, and the names by which it is found."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from support.batches import made

from mlx_server.app.batches.batch_store import INPUT, OUTPUT
from mlx_server.app.batches.result_files import cut_off
from mlx_server.app.batches.rows import Outcome, PendingLine
from mlx_server.app.config.settings import Settings
from mlx_server.app.server.offline import Offline
from mlx_server.app.storage.durable import sync, sync_folder


class Disk:
    """What a power cut leaves: files and folders as they were synced last."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._names: dict[int, dict[str, int]] = {}

    def sync(self, descriptor: int) -> None:
        """Take in what is there."""
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            with os.scandir(descriptor) as entries:
                self._names[found.st_ino] = {entry.name: entry.inode() for entry in entries}
        else:
            self._sizes[found.st_ino] = found.st_size

    def size(self, path: Path) -> int | None:
        """How much is left of a file, in bytes; None if it is not found."""
        number = self._names.get(path.parent.stat().st_ino, {}).get(path.name)
        return None if number is None else self._sizes.get(number)

    def has(self, folder: Path) -> bool:
        """Whether a folder is found."""
        return folder.name in self._names.get(folder.parent.stat().st_ino, {})


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk, control, full = Disk(), fcntl.fcntl, getattr(fcntl, "F_FULLFSYNC", None)

    def controlled(descriptor: int, command: int, given: int = 0) -> int:
        if command == full:
            disk.sync(descriptor)
            return 0
        return int(control(descriptor, command, given))

    monkeypatch.setattr(os, "fsync", disk.sync)
    monkeypatch.setattr(fcntl, "fcntl", controlled)
    return disk


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Offline]:
    kept = Offline.open(Settings(data_dir=tmp_path / "data"))
    yield kept
    kept.database.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (source := tmp_path / "data" / "source").parent.mkdir(exist_ok=True)
    source.write_bytes(b"four")
    return source


def test_rows_are_on_the_disk_when_they_are_committed(kept: Offline) -> None:
    query = "SELECT synchronous, fullfsync FROM pragma_synchronous, pragma_fullfsync"
    found = asyncio.run(kept.database.write(lambda connection: connection.execute(query).fetchall()))
    assert found == [(2, 1)]


def test_files_are_there(kept: Offline, source: Path, disk: Disk) -> None:
    file = kept.files.new("me", "batch", "a", 4, None)
    asyncio.run(kept.files.keep(file, source))
    assert disk.size(kept.files.path(file.id)) == 4


def test_parts_are_there_and_so_is_what_they_become(kept: Offline, source: Path, disk: Disk) -> None:
    async def scenario() -> None:
        upload = await kept.uploads.create("me", "batch", "a", 4, None)
        part = await kept.uploads.add_part(upload.id, "me", source, 4)
        assert part is not None
        assert disk.size(kept.files.folder / "parts" / part[0]) == 4
        done = await kept.uploads.complete(upload.id, "me", [part[0]], None)
        assert done is not None
        assert disk.size(kept.files.path(done[1].id)) == 4

    asyncio.run(scenario())


def test_batches_are_there_and_so_are_their_results(kept: Offline, disk: Disk) -> None:
    async def scenario() -> None:
        store = kept.batches
        batch = await made(store)
        folder = store.folder / batch.id
        assert disk.has(folder)
        assert disk.has(folder / INPUT)
        await store.add_lines(batch, [PendingLine(1, 0, 1, "0", None, b"")])
        await store.record(batch, [Outcome(1, b"result", ok=True)])
        assert disk.size(folder / OUTPUT) == 6
        await store.finish(await store.fresh(batch), "completed")
        ended = await store.fresh(batch)
        assert ended.output_file is not None
        assert disk.size(kept.files.path(ended.output_file)) == 6

    asyncio.run(scenario())


def test_results_that_are_lost_are_not_made_up(kept: Offline) -> None:
    async def scenario() -> None:
        batch = await made(kept.batches)
        path = kept.batches.path(batch, OUTPUT)
        with pytest.raises(FileNotFoundError):
            cut_off(path, 6)
        assert not path.exists()
        path.write_bytes(b"four")
        with pytest.raises(OSError, match="4 of 6 bytes"):
            cut_off(path, 6)
        cut_off(path, 3)
        assert path.read_bytes() == b"fou"

    asyncio.run(scenario())


@pytest.mark.parametrize(("full", "synced"), [(None, True), (fcntl.F_GETFD, False), (1 << 20, True)])
def test_disk_that_knows_no_full_sync_gets_a_plain_one(
    full: int | None, synced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(os, "fsync", asked.append)
    with (tmp_path / "a").open("wb") as file:
        sync(file.fileno(), full)
        assert asked == [file.fileno()] * synced


@pytest.mark.parametrize(("number", "raises"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_folders_are_not_synced_where_the_disk_can_not(
    number: int, raises: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(OSError, match="error") if raises else nullcontext():
        sync_folder(tmp_path)
