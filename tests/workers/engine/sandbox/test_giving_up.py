"""What a process gives up is gone: for later threads, for the processes that it starts, and for ever."""

import errno
import subprocess
import sys
from pathlib import Path

from mlx_server.workers.engine.sandbox import landlock, no_internet

PROBE = """
import os, socket, sys, threading
from pathlib import Path
from mlx_server.workers.engine.sandbox.landlock import gain_no_privileges, write_only_below
from mlx_server.workers.engine.sandbox.no_internet import open_no_more_connections

def tell(attempt):
    try:
        attempt()
        print(0, end=" ")
    except OSError as error:
        print(error.errno, end=" ")

"""


def printed(code: str, *arguments: object) -> list[int]:
    """The numbers that some code prints in a process of its own."""
    command = [sys.executable, "-c", PROBE + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


WRITES = """
ours, others = map(Path, sys.argv[1:])
print(int(write_only_below([ours, ours / "none", Path("/dev/null")])), end=" ")
tell(lambda: (ours / "a").write_text("x"))
tell(lambda: os.rename(ours / "a", ours / "deep" / "a"))
tell(lambda: os.truncate(ours / "deep" / "a", 0))
tell(lambda: open("/dev/null", "w"))
tell(lambda: (others / "there").read_text())
for attempt in (
    lambda: (others / "a").write_text("x"),
    lambda: (others / "a").mkdir(),
    lambda: os.rename(ours / "deep" / "a", others / "a"),
    lambda: (others / "there").unlink(),
):
    tell(attempt)
    thread = threading.Thread(target=tell, args=(attempt,))
    thread.start()
    thread.join()
"""


def test_nothing_is_written_outside_the_folders(tmp_path: Path) -> None:
    ours, others = tmp_path / "ours", tmp_path / "others"
    (ours / "deep").mkdir(parents=True)
    others.mkdir()
    (others / "there").write_text("x")
    done, *results = printed(WRITES, ours, others)
    assert done == (landlock.version() >= landlock.LEAST_VERSION)
    assert results[:5] == [0] * 5
    if done:
        assert set(results[5:]) <= {errno.EACCES, errno.EXDEV}
        assert (others / "there").read_text() == "x"


SOCKETS = """
began, go = threading.Event(), threading.Event()
listener = socket.create_server(("127.0.0.1", 0))

def older():
    began.set()
    go.wait()
    tell(socket.socket)

thread = threading.Thread(target=older)
thread.start()
began.wait()
print(int(open_no_more_connections()), end=" ")
for family in (socket.AF_INET, socket.AF_INET6):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        tell(lambda: socket.socket(family, kind))
go.set()
thread.join()
tell(socket.socketpair)
tell(lambda: socket.socket(socket.AF_UNIX))
"""


def test_no_thread_opens_a_connection_and_local_sockets_work() -> None:
    done, *results = printed(SOCKETS)
    assert done == no_internet.is_possible()
    assert results == ([errno.EPERM] * 5 + [0, 0] if done else [0] * 7)


def test_filter_jumps_to_where_it_should() -> None:
    """Each instruction's jumps stay inside, and the last two are the ends."""
    steps = no_internet.program(1, 2)
    count = len(steps) // 8
    for number in range(count - 2):
        _, _, if_true, if_false = steps[8 * number : 8 * number + 4]
        assert number + 1 + max(if_true, if_false) < count
