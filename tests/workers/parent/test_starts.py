import os
import signal
import socket

import psutil
import pytest
from support.running.processes import lives
from support.running.servers import wait_for

from mlx_server.schemas.internal import messages
from mlx_server.schemas.internal.messages import Heartbeat, Load, Loading
from mlx_server.workers.parent.starts import Started, Wanted, WorkerStarts, start_worker

WANTED = Wanted(1, "error", "/dev/null/nowhere")


def _end(started: Started) -> None:
    """A worker ends when its parent is gone."""
    started.socket.close()
    started.process.communicate(timeout=20)
    assert started.process.returncode == 0


def test_the_process_that_was_started_ahead_is_used_once() -> None:
    with WorkerStarts() as starts:
        starts.ahead(WANTED, "scripted")
        ahead = starts.standby_pid
        assert starts.fits(WANTED)
        first, second = starts.start(WANTED, "scripted"), starts.start(WANTED, "scripted")
        assert (first.process.pid == ahead, second.process.pid == ahead) == (True, False)
        assert (starts.standby_pid, starts.fits(WANTED)) == (None, False)
    for started in (first, second):
        assert lives(started.process.pid)
        _end(started)


@pytest.mark.parametrize(
    "other",
    [
        Wanted(2, "error", "/dev/null/nowhere"),
        Wanted(1, "info", "/dev/null/nowhere"),
        Wanted(1, "error", "/"),
    ],
)
def test_one_that_was_started_otherwise_is_not_used_and_ends(other: Wanted) -> None:
    with WorkerStarts() as starts:
        starts.ahead(WANTED, "scripted")
        assert not starts.fits(other)
        started = starts.start(other, "scripted")
        _end(started)
        again = starts.start(WANTED, "scripted")
    _end(again)


def test_one_that_nobody_wanted_ends_with_the_block() -> None:
    with WorkerStarts() as starts:
        starts.ahead(WANTED, "scripted")
        pid = starts.standby_pid
    assert pid is not None
    assert not lives(pid)


def test_one_that_has_died_is_replaced() -> None:
    with WorkerStarts() as starts:
        starts.ahead(WANTED, "scripted")
        pid = starts.standby_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: starts.standby_pid is None)
        started = starts.start(WANTED, "scripted")
        assert started.process.pid != pid
        _end(started)


def _answers(started: Started) -> bool:
    """Whether it loads a model when it is told to."""
    body, sock = messages.encode(Load("scripted", "scripted", 4, 512, "/dev/null/nowhere")), started.socket
    sock.settimeout(20)
    sock.sendall(len(body).to_bytes(4, "big") + body)
    length = int.from_bytes(sock.recv(4, socket.MSG_WAITALL), "big")
    return isinstance(messages.decode_from_worker(sock.recv(length, socket.MSG_WAITALL)), Heartbeat | Loading)


def _begun(starts: WorkerStarts, threads: int) -> int:
    """The process id of one that begins."""
    before = psutil.Process().children()
    starts.begin(threads)
    [begun] = {*psutil.Process().children()} - {*before}
    return begun.pid


@pytest.mark.parametrize(("threads", "is_used"), [(1, True), (2, False)])
def test_a_process_that_has_begun_is_told_what_it_is_for_if_it_fits(threads: int, is_used: bool) -> None:
    with WorkerStarts() as starts:
        pid = _begun(starts, threads)
        assert starts.standby_pid is None
        starts.ahead(WANTED, "scripted")
        started = starts.start(WANTED, "scripted")
        assert (started.process.pid == pid, lives(pid)) == (is_used, is_used)
    assert _answers(started)
    _end(started)


def test_a_process_that_has_begun_ends_unless_it_is_told_more() -> None:
    with WorkerStarts() as starts:
        pid = _begun(starts, 1)
    assert not lives(pid)
    _end(start_worker(1))
