"""Turns on the accelerator: one process at a time, everybody in turn, and nobody held up by the dead."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
import support.running.lease_taker
from support.running.lease_taker import COUNT, read_counts
from support.running.servers import wait_for

from mlx_server.workers.child.lease import Lease, LeaseError, machine_folder, make_lease

TURN_S = 0.002


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "lease"


@pytest.fixture
def taker(folder: Path, tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], Path]]]:
    """Starts processes that take the lease; returns them and the file of their counts."""
    started: list[subprocess.Popen[bytes]] = []
    counts = tmp_path / "counts"

    def start(*arguments: object) -> tuple[subprocess.Popen[bytes], Path]:
        number = len(started)
        with counts.open("ab") as file:
            file.write(COUNT.pack(0))
        command = [sys.executable, support.running.lease_taker.__file__, folder, counts, number, *arguments]
        started.append(subprocess.Popen([str(part) for part in command]))
        return started[-1], counts

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def new(folder: Path, thread: ThreadPoolExecutor) -> Iterator[Callable[[], Lease]]:
    """Makes leases; none of them keeps the thread waiting once a test has ended, however it has."""
    made: list[Lease] = []

    def make() -> Lease:
        made.append(Lease(folder))
        return made[-1]

    yield make
    for lease in made:
        lease.stop()
        lease.release()


def wait_for_waiting(lease: Lease) -> None:
    """Until somebody waits for this one's turn, and does not only look whether it is free."""
    seen: list[bool] = []

    def again() -> bool:
        seen.append(lease.wanted)
        return seen[-2:] == [True, True]

    wait_for(again)


def test_processes_take_turns_and_each_gets_its_share(
    taker: Callable[..., tuple[subprocess.Popen[bytes], Path]],
) -> None:
    processes = [taker(TURN_S)[0] for _ in range(3)]
    _, counts = taker(TURN_S)
    wait_for(lambda: min(read_counts(counts)) > 0)
    before = read_counts(counts)
    wait_for(lambda: sum(read_counts(counts)) - sum(before) > 400)
    gained = [now - then for now, then in zip(read_counts(counts), before, strict=True)]
    assert max(gained) < 3 * min(gained), gained
    assert [process.poll() for process in processes] == [None] * 3, "two had the turn at once"


def test_a_holder_that_is_killed_frees_the_lease(taker: Callable[..., tuple[subprocess.Popen[bytes], Path]]) -> None:
    holder, counts = taker()
    wait_for(lambda: read_counts(counts) == [1])
    taker(TURN_S)
    taker(TURN_S)
    assert read_counts(counts)[1:] == [0, 0]
    holder.kill()
    wait_for(lambda: min(read_counts(counts)) > 0)


def test_one_that_is_killed_while_it_waits_keeps_nobody_out(
    taker: Callable[..., tuple[subprocess.Popen[bytes], Path]], folder: Path
) -> None:
    mine = Lease(folder)
    assert mine.acquire()
    waiting, _ = taker(TURN_S)
    wait_for_waiting(mine)
    waiting.kill()
    waiting.wait()
    assert not mine.wanted
    mine.release()
    assert mine.acquire()


def test_children_of_the_holder_do_not_inherit_the_lease(folder: Path) -> None:
    mine, other = Lease(folder), Lease(folder)
    assert mine.acquire()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False) as child:
        mine.release()
        assert other.acquire()
        child.communicate(b"\n")


def test_the_turn_is_kept_until_it_is_given_back(new: Callable[[], Lease], thread: ThreadPoolExecutor) -> None:
    mine, other = new(), new()
    assert mine.acquire()
    assert mine.acquire(), "whoever has it may ask again"
    assert (mine.held, mine.wanted, other.held) == (True, False, False)
    waiting = thread.submit(other.acquire)
    wait_for_waiting(mine)
    assert not waiting.done()
    mine.release()
    assert waiting.result(20)
    assert (mine.held, other.held, other.wanted) == (False, True, False)


def test_whoever_waits_comes_before_the_one_that_just_had_its_turn(
    new: Callable[[], Lease], thread: ThreadPoolExecutor
) -> None:
    mine, other = new(), new()
    for _ in range(20):
        assert mine.acquire()
        waiting = thread.submit(other.acquire)
        wait_for_waiting(mine)
        mine.release()
        again = thread.submit(mine.acquire)
        assert waiting.result(20)
        assert not again.done()
        other.release()
        assert again.result(20)
        mine.release()


def test_waiting_ends_when_it_is_stopped_and_leaves_the_lease_to_others(
    new: Callable[[], Lease], thread: ThreadPoolExecutor
) -> None:
    holder, stopped, third = new(), new(), new()
    assert holder.acquire()
    waiting = thread.submit(stopped.acquire)
    wait_for_waiting(holder)
    stopped.stop()
    assert waiting.result(20) is False
    assert stopped.acquire() is False
    holder.release()
    assert third.acquire()


def test_a_turn_that_has_begun_may_end_after_a_stop(folder: Path) -> None:
    mine = Lease(folder)
    assert mine.acquire()
    mine.stop()
    assert mine.acquire(), "it still has it"
    mine.release()
    assert not mine.acquire()


def test_files_that_were_tidied_away_split_nobody(
    folder: Path, new: Callable[[], Lease], thread: ThreadPoolExecutor
) -> None:
    mine = new()
    assert mine.acquire()
    waiter = new()
    waiting: Future[bool] = thread.submit(waiter.acquire)
    wait_for_waiting(mine)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert mine.wanted, "whoever has the turn can't know who waits"
    newcomer = new()
    assert newcomer.acquire()
    mine.release()
    again: Future[bool] = thread.submit(mine.acquire)
    wait_for_waiting(newcomer)
    assert not any((waiting.done(), again.done()))
    newcomer.release()
    first, second = (waiter, mine) if waiting in wait((waiting, again), 20, FIRST_COMPLETED).done else (mine, waiter)
    assert not second.held
    first.release()
    assert waiting.result(20)
    assert again.result(20)


def test_the_files_are_the_users_alone(folder: Path) -> None:
    Lease(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()} == {
        "turnstile": 0o600,
        "holder": 0o600,
    }
    assert str(os.getuid()) in str(machine_folder())


@pytest.mark.parametrize("how", ["open to others", "a link", "a file"])
def test_a_folder_that_others_may_have_made_is_refused(folder: Path, tmp_path: Path, how: str) -> None:
    match how:
        case "open to others":
            folder.mkdir()
            folder.chmod(0o777)
        case "a link":
            (tmp_path / "elsewhere").mkdir(mode=0o700)
            folder.symlink_to(tmp_path / "elsewhere")
        case "a file":
            folder.touch()
    with pytest.raises(LeaseError, match="accelerator lease"):
        Lease(folder)


def test_a_file_that_is_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "holder").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LeaseError):
        Lease(folder)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("use", "accelerated", "shared"),
    [("auto", True, True), ("auto", False, False), ("on", False, True), ("off", True, False)],
)
def test_turns_are_taken_where_the_operator_or_the_machine_says_so(use: str, accelerated: bool, shared: bool) -> None:
    turns = make_lease(use, accelerated=accelerated)
    assert isinstance(turns, Lease) if shared else turns is None


def test_the_lock_is_one_that_other_programs_can_see(folder: Path) -> None:
    mine = Lease(folder)
    assert mine.acquire()
    with (folder / "holder").open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
