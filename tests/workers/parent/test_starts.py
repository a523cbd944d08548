import pytest
from support.running.processes import lives

from mlx_server.workers.parent.starts import Started, Wanted, WorkerStarts

WANTED = Wanted(1, "error", "/dev/null/nowhere")


def _end(started: Started) -> None:
    """A worker ends when its parent is gone."""
    started.socket.close()
    assert started.process.wait(20) == 0


def test_the_process_that_was_started_ahead_is_used_once() -> None:
    with WorkerStarts() as starts:
        starts.ahead(WANTED, "scripted")
        assert starts._ahead is not None
        ahead = starts._ahead[1]
        first, second = starts.start(WANTED, "scripted"), starts.start(WANTED, "scripted")
        assert (first is ahead, second is ahead) == (True, False)
    for started in (first, second):
        assert lives(started.process.pid)
        _end(started)


@pytest.mark.parametrize(
    "other", [Wanted(2, "error", "/dev/null/nowhere"), Wanted(1, "info", "/dev/null/nowhere"), Wanted(1, "error", "/")]
)
def test_one_that_was_started_otherwise_is_not_used_and_ends(other: Wanted) -> None:
    with WorkerStarts() as starts:
        starts.ahead(WANTED, "scripted")
        started = starts.start(other, "scripted")
        _end(started)
        again = starts.start(WANTED, "scripted")
    _end(again)


def test_one_that_nobody_wanted_ends_with_the_block() -> None:
    with WorkerStarts() as starts:
        starts.ahead(WANTED, "scripted")
        assert starts._ahead is not None
        pid = starts._ahead[1].process.pid
    assert not lives(pid)


def test_one_that_has_died_is_replaced() -> None:
    with WorkerStarts() as starts:
        starts.ahead(WANTED, "scripted")
        assert starts._ahead is not None
        dead = starts._ahead[1]
        dead.process.kill()
        dead.process.wait()
        started = starts.start(WANTED, "scripted")
        assert started.process.pid != dead.process.pid
        _end(started)
