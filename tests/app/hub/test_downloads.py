"""Downloads in real processes, from a hub on this machine."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from support.running.hub import LocalHub, Repo, running

from mlx_server.app.catalog.hub_cache import repository_of
from mlx_server.app.hub.download import Download, DownloadStatus
from mlx_server.app.hub.downloader import MODULE
from mlx_server.app.hub.downloads import (
    DownloadElsewhere,
    DownloadNotFound,
    Downloads,
    DownloadUnderWay,
    MemoryStore,
    new_row,
)
from mlx_server.app.hub.installer import Installer
from mlx_server.app.hub.owner import lives, owner_of
from mlx_server.app.registry.registry import Registry
from mlx_server.app.registry.rows import DownloadRow, ModelRow
from mlx_server.workers.hub.access import HubAccess
from mlx_server.workers.hub.errors import HubError, NotAHubId

SIZE = 1 << 20
WEIGHTS = os.urandom(SIZE)
ID = "mlx-community/tiny"


def repo(id_: str = ID, **how: object) -> Repo:
    return Repo(id_, {"config.json": b"{}", "model.safetensors": WEIGHTS}, **how)  # type: ignore[arg-type]


def slow(id_: str = ID) -> Repo:
    """One that takes longer than any test, unless it is told to hurry."""
    return repo(id_, pause_s=5.0)


class FullStore(MemoryStore):
    """Keeps so many rows, and then none; one that was kept before stays as it was."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    async def save_download(self, row: DownloadRow) -> None:
        if self.room == 0:
            raise sqlite3.OperationalError("database or disk is full")
        self.room -= 1
        await super().save_download(row)


class LockedRegistry(Registry):
    """Another server has its file."""

    async def model(self, name: str) -> ModelRow | None:
        raise sqlite3.OperationalError("database is locked")


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """Another server's process."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        yield child
        child.kill()


def under_way(server: subprocess.Popen[bytes]) -> DownloadRow:
    """A download of that server."""
    return msgspec.structs.replace(
        new_row(ID), status="downloading", total_bytes=4, done_bytes=1, owner=owner_of(server.pid)
    )


def children() -> list[psutil.Process]:
    """The processes that download."""
    living = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in living if MODULE in child.cmdline()]


async def until(download: Download, true: Callable[[], bool], downloads: Downloads) -> None:
    """Wait for a change after which `true` is so."""
    changed = asyncio.Event()
    unwatch = downloads.watch(lambda _: changed.set())
    async with asyncio.timeout(60):
        while not true():
            changed.clear()
            await changed.wait()
    unwatch()


def with_downloads(
    tmp_path: Path,
    scenario: Callable[[Downloads, LocalHub], Awaitable[None]],
    *repos: Repo,
    **how: object,
) -> None:
    """Run a scenario against a hub with these repositories; nothing is left behind."""

    async def run(hub: LocalHub) -> None:
        downloads = Downloads(HubAccess(hub.url, None, tmp_path), **how)  # type: ignore[arg-type]
        await downloads.open()
        try:
            await scenario(downloads, hub)
        finally:
            await downloads.close()

    with running(LocalHub(*repos)) as hub:
        asyncio.run(run(hub))
    assert children() == []


def test_a_download_goes_through_its_states_to_a_whole_folder(tmp_path: Path) -> None:
    seen: list[tuple[DownloadStatus, int]] = []

    async def scenario(downloads: Downloads, hub: LocalHub) -> None:
        downloads.watch(lambda download: seen.append((download.status, download.row.done_bytes)))
        started = await downloads.start(ID, name="tiny")
        done = await downloads.wait(started.id)
        assert done.status is DownloadStatus.COMPLETED
        assert (done.row.name, done.row.done_bytes, done.row.total_bytes) == ("tiny", SIZE + 2, SIZE + 2)
        assert done.percent == 100.0
        assert done.folder is not None
        assert (done.folder / "model.safetensors").read_bytes() == WEIGHTS
        assert downloads.all() == [done]

    with_downloads(tmp_path, scenario, repo())
    assert [status for status, _ in seen][:2] == [DownloadStatus.WAITING, DownloadStatus.DOWNLOADING]
    assert seen[-1] == (DownloadStatus.COMPLETED, SIZE + 2)
    assert [done for _, done in seen] == sorted(done for _, done in seen)


def test_cancelling_ends_the_process_and_the_next_start_goes_on(tmp_path: Path) -> None:
    slow_one = repo(pause_s=0.5)

    async def scenario(downloads: Downloads, hub: LocalHub) -> None:
        started = await downloads.start(ID)
        await until(started, lambda: started.row.done_bytes > 1000, downloads)
        cancelled = await downloads.cancel(started.id)
        assert cancelled.status is DownloadStatus.CANCELLED
        assert cancelled.row.total_bytes == SIZE + 2
        assert children() == []
        slow_one.pause_s = 0.0
        hub.requests.clear()
        again = await downloads.start(ID)
        assert again is started
        assert (await downloads.wait(again.id)).status is DownloadStatus.COMPLETED
        [asked] = hub.asked_for("/lfs/")
        assert asked.range is not None

    with_downloads(tmp_path, scenario, slow_one)


def test_two_starts_of_one_repository_are_one_download(tmp_path: Path) -> None:
    async def scenario(downloads: Downloads, hub: LocalHub) -> None:
        first, second = await downloads.start(ID, name="tiny"), await downloads.start(ID, auto_load=True)
        assert first is second
        assert first.row.auto_load
        with pytest.raises(DownloadUnderWay, match="as 'tiny'"):
            await downloads.start(ID, name="other")
        await downloads.wait(first.id)
        assert len(hub.asked_for("/lfs/")) == 1

    with_downloads(tmp_path, scenario, repo())


def test_more_downloads_than_are_allowed_at_once_wait(tmp_path: Path) -> None:
    async def scenario(downloads: Downloads, hub: LocalHub) -> None:
        first, second = await downloads.start("a/one"), await downloads.start("a/two")
        await until(first, lambda: first.status is DownloadStatus.DOWNLOADING, downloads)
        assert second.status is DownloadStatus.WAITING
        await downloads.cancel(first.id)
        assert (await downloads.wait(second.id)).status is DownloadStatus.COMPLETED
        assert first.status is DownloadStatus.CANCELLED

    with_downloads(tmp_path, scenario, slow("a/one"), repo("a/two"), at_once=1)


def test_one_that_waits_can_be_cancelled(tmp_path: Path) -> None:
    async def scenario(downloads: Downloads, hub: LocalHub) -> None:
        await downloads.start("a/one")
        second = await downloads.start("a/two")
        assert (await downloads.cancel(second.id)).status is DownloadStatus.CANCELLED

    with_downloads(tmp_path, scenario, slow("a/one"), slow("a/two"), at_once=1)


def test_those_of_a_deleted_model_are_cancelled_and_no_others(tmp_path: Path) -> None:
    async def scenario(downloads: Downloads, hub: LocalHub) -> None:
        started = [await downloads.start("a/one", name="tiny"), *[await downloads.start(id_) for id_ in ("a/two", ID)]]
        await downloads.clear("tiny", [repository_of("a/two"), tmp_path])
        assert [one.status is DownloadStatus.CANCELLED for one in started] == [True, True, False]
        assert len(children()) <= 1

    with_downloads(tmp_path, scenario, slow("a/one"), slow("a/two"), slow(ID))


def test_what_runs_when_the_server_ends_is_interrupted_and_is_gone_on_with(tmp_path: Path) -> None:
    store = MemoryStore()
    slow_one = repo(pause_s=0.5)

    async def first(downloads: Downloads, hub: LocalHub) -> None:
        started = await downloads.start(ID, name="tiny", auto_load=True)
        await until(started, lambda: started.row.done_bytes > 1000, downloads)

    async def second(downloads: Downloads, hub: LocalHub) -> None:
        [found] = downloads.all()
        assert found.status is DownloadStatus.INTERRUPTED
        assert found.row.done_bytes > 1000
        assert found.row.name == "tiny"
        slow_one.pause_s = 0.0
        again = await downloads.start(ID, name="tiny")
        assert again.id == found.id
        assert (await downloads.wait(again.id)).status is DownloadStatus.COMPLETED
        assert hub.asked_for("/lfs/")[0].range is not None

    with_downloads(tmp_path, first, slow_one, store=store)
    with_downloads(tmp_path, second, slow_one, store=store)


def test_a_download_that_the_server_left_behind_is_interrupted(tmp_path: Path) -> None:
    store = MemoryStore()

    async def scenario(downloads: Downloads, hub: LocalHub) -> None:
        started = await downloads.start(ID)
        left = started.row
        await downloads.cancel(started.id)
        await store.save_download(left)

    async def after(downloads: Downloads, hub: LocalHub) -> None:
        assert [found.status for found in downloads.all()] == [DownloadStatus.INTERRUPTED]
        assert [row.status for row in await store.downloads()] == [DownloadStatus.INTERRUPTED]

    with_downloads(tmp_path, scenario, slow(), store=store)
    with_downloads(tmp_path, after, store=store)


def test_what_another_server_has_under_way_is_told_and_left_to_it(
    tmp_path: Path, other: subprocess.Popen[bytes]
) -> None:
    store = MemoryStore()
    row = under_way(other)
    asyncio.run(store.save_download(row))

    async def scenario(downloads: Downloads, hub: LocalHub) -> None:
        assert await store.downloads() == [row]
        assert [(one.status, one.percent) for one in await downloads.everywhere()] == [(DownloadStatus.DOWNLOADING, 25)]
        with pytest.raises(DownloadElsewhere, match="by another server"):
            await downloads.cancel(row.id)
        own = await downloads.start(ID)
        assert (await downloads.wait(own.id)).status is DownloadStatus.COMPLETED
        assert downloads.all() == [own]
        await store.save_download(msgspec.structs.replace(row, done_bytes=2))
        assert (await downloads.find(row.id)).percent == 50
        other.kill()
        other.wait()
        assert (await downloads.find(row.id)).status is DownloadStatus.INTERRUPTED
        assert (await downloads.cancel(row.id)).status is DownloadStatus.INTERRUPTED

    async def after(downloads: Downloads, hub: LocalHub) -> None:
        assert {one.status for one in downloads.all()} == {DownloadStatus.INTERRUPTED, DownloadStatus.COMPLETED}

    with_downloads(tmp_path, scenario, repo(), store=store)
    with_downloads(tmp_path, after, store=store)


def test_what_another_server_has_started_again_is_told(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    store = MemoryStore()

    async def scenario(downloads: Downloads, hub: LocalHub) -> None:
        own = await downloads.start(ID)
        await downloads.cancel(own.id)
        assert await downloads.everywhere() == [own]
        again = msgspec.structs.replace(under_way(other), id=own.id)
        await store.save_download(again)
        assert (await downloads.find(own.id)).row == again
        await store.save_download(msgspec.structs.replace(again, status="completed"))
        assert (await downloads.find(own.id)).status is DownloadStatus.COMPLETED

    with_downloads(tmp_path, scenario, slow(), store=store)


def test_owners_are_processes_that_run(other: subprocess.Popen[bytes]) -> None:
    pid, began = owner_of(other.pid).split()
    assert lives(owner_of())
    assert lives(f"{pid} {began}")
    assert not lives(f"{pid} {float(began) - 60}"), "another process that had its number"
    assert not lives("no owner")
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert not lives(f"{pid} {began}"), "nobody has asked yet how it ended"
    other.wait()
    assert not lives(f"{pid} {began}")


def test_a_process_that_is_killed_is_a_failure_that_can_be_gone_on_with(tmp_path: Path) -> None:
    slow_one = repo(pause_s=0.5)

    async def scenario(downloads: Downloads, hub: LocalHub) -> None:
        started = await downloads.start(ID)
        await until(started, lambda: started.row.done_bytes > 1000, downloads)
        [child] = children()
        child.kill()
        failed = await downloads.wait(started.id)
        assert failed.status is DownloadStatus.FAILED
        assert failed.row.error is not None
        assert "SIGKILL" in failed.row.error
        slow_one.pause_s = 0.0
        await downloads.start(ID)
        assert (await downloads.wait(started.id)).status is DownloadStatus.COMPLETED
        assert hub.asked_for("/lfs/")[-1].range is not None

    with_downloads(tmp_path, scenario, slow_one)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (repo(lies=True), "is damaged"),
        (repo(gated=True), "set HF_TOKEN"),
        (repo("a/other"), "There is no model mlx-community/tiny"),
        (repo(claims={"model.safetensors": 10**18}), "Not enough disk space .* 1000000000.0 GB"),
    ],
)
def test_what_goes_wrong_is_told(tmp_path: Path, broken: Repo, message: str) -> None:
    async def scenario(downloads: Downloads, hub: LocalHub) -> None:
        started = await downloads.start(ID)
        failed = await downloads.wait(started.id)
        assert failed.status is DownloadStatus.FAILED
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(failed.row.error)

    with_downloads(tmp_path, scenario, broken)


def test_a_download_is_completed_only_when_it_is_installed(tmp_path: Path) -> None:
    given: list[Path | None] = []

    async def install(download: Download) -> None:
        given.append(download.folder)
        assert download.live
        if len(given) > 1:
            raise HubError("the registry is full")

    async def scenario(downloads: Downloads, hub: LocalHub) -> None:
        started = await downloads.start(ID)
        assert (await downloads.wait(started.id)).status is DownloadStatus.COMPLETED
        await downloads.start(ID, force=True)
        failed = await downloads.wait(started.id)
        assert (failed.status, failed.row.error) == (DownloadStatus.FAILED, "the registry is full")
        assert len(hub.asked_for("/lfs/")) == 2

    with_downloads(tmp_path, scenario, repo(), installed=install)
    assert None not in given


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_store_that_cannot_be_written_ends_no_download(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, room: int
) -> None:
    async def scenario(downloads: Downloads, hub: LocalHub) -> None:
        started = await downloads.start(ID)
        done = await downloads.wait(started.id)
        assert (done.status, done.row.error) == (DownloadStatus.COMPLETED, None)
        again = await downloads.start("a/slow")
        assert (await downloads.cancel(again.id)).status is DownloadStatus.CANCELLED
        await downloads.start("a/slow")

    with_downloads(tmp_path, scenario, repo(), slow("a/slow"), store=FullStore(room))
    assert f"does not keep the download of {ID}: database or disk is full" in caplog.text


def test_a_row_that_cannot_be_written_is_interrupted_all_the_same(tmp_path: Path) -> None:
    store = FullStore(2)

    async def scenario(downloads: Downloads, hub: LocalHub) -> None:
        started = await downloads.start(ID)
        await until(started, lambda: started.status is DownloadStatus.DOWNLOADING, downloads)

    async def after(downloads: Downloads, hub: LocalHub) -> None:
        assert [found.status for found in downloads.all()] == [DownloadStatus.INTERRUPTED]

    with_downloads(tmp_path, scenario, slow(), store=store)
    assert [row.status for row in asyncio.run(store.downloads())] == [DownloadStatus.DOWNLOADING]
    with_downloads(tmp_path, after, store=store)


def test_a_registry_that_does_not_take_a_model_is_told(tmp_path: Path) -> None:
    async def scenario(downloads: Downloads, hub: LocalHub) -> None:
        started = await downloads.start(ID, name="tiny")
        failed = await downloads.wait(started.id)
        assert (failed.status, failed.row.error) == (
            DownloadStatus.FAILED,
            f"{ID} is downloaded, but the registry does not take it as 'tiny': database is locked.",
        )

    registry = LockedRegistry.open(None)
    with_downloads(tmp_path, scenario, repo(), installed=Installer(registry).installed)
    registry.close()


def test_ids_that_are_none_are_refused(tmp_path: Path) -> None:
    async def scenario(downloads: Downloads, hub: LocalHub) -> None:
        for id_ in ("", "tiny", "../../etc/passwd", "--force/x", "a/b/c", "a..b/c", "a/b--c", f"a/{'b' * 97}"):
            with pytest.raises(NotAHubId):
                await downloads.start(id_)
        for unknown in (downloads.cancel, downloads.wait):
            with pytest.raises(DownloadNotFound):
                await unknown("download-none")

    with_downloads(tmp_path, scenario)
