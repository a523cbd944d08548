"""`python -m mlx_server.workers.child.rank`: a rank behind rank 0, whose orders come on standard input.

The main thread reads, another computes, a third says that the process lives. The end of the input ends the process,
whatever it is computing.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
import time
from typing import BinaryIO

from mlx_server.workers.child.confinement import keep_to_own_folders, leave_the_network
from mlx_server.workers.child.ranks import free_port, versions
from mlx_server.workers.engine.ranks.orders import (
    HEAD_BYTES,
    Alive,
    FromRank,
    Hello,
    Join,
    Order,
    Refused,
    Resolved,
    decode_enter,
    decode_join,
    decode_orders,
    frame,
)
from mlx_server.workers.errors import ModelLoadError, one_line

BEAT_S = 1.0
"""Or a third of what rank 0 waits for, if that is less."""

log = logging.getLogger(__name__)


class Speaker:
    """Writes to rank 0, from any thread."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def say(self, message: FromRank) -> None:
        """Send a message; if nobody reads any more, the process ends."""
        try:
            with self._lock:
                self._out.write(frame(message))
                self._out.flush()
        except OSError:
            os._exit(1)

    def beat(self, every_s: float) -> None:
        """Say for ever that this process lives."""
        while True:
            self.say(Alive())
            time.sleep(every_s)

    def refuse(self, message: str) -> None:
        """Say why it can't go on, and end."""
        self.say(Refused(message))
        os._exit(1)


def read(source: BinaryIO) -> bytes | None:
    """The next frame's body; None at the end."""
    head = source.read(HEAD_BYTES)
    length = int.from_bytes(head, "big")
    body = source.read(length)
    return body if len(head) == HEAD_BYTES and len(body) == length else None


def compute(join: Join, entered: threading.Event, orders: queue.SimpleQueue[list[Order]], speaker: Speaker) -> None:
    """The engine's thread. Meets the others once it is told to, by `entered`."""
    from mlx_server.workers.handlers.ranks import follower

    def resolved() -> None:
        speaker.say(Resolved())
        entered.wait()

    try:
        keep_to_own_folders(join.load)
        rank = follower(join, resolved)
        leave_the_network(join.load)
        while True:
            rank.follow(orders.get())
    except ModelLoadError as error:
        speaker.refuse(str(error))
    except Exception as error:
        log.exception("this rank can't go on")
        speaker.refuse(one_line(error))


def main() -> None:
    """Entry point of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    speaker = Speaker(os.fdopen(os.dup(sys.stdout.fileno()), "wb"))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what models' code prints is no message
    source = sys.stdin.buffer
    # Before the others wait for this rank to join.
    import mlx_server.workers.handlers.ranks  # noqa: F401

    speaker.say(Hello(versions(), free_port()))
    body = read(source)
    if body is None:
        return
    join = decode_join(body)
    assert join.load.hosts is not None
    beat_s = min(BEAT_S, join.load.hosts.heartbeat_s / 3)
    orders: queue.SimpleQueue[list[Order]] = queue.SimpleQueue()
    threading.Thread(target=speaker.beat, args=(beat_s,), daemon=True).start()
    entered = threading.Event()
    threading.Thread(target=compute, args=(join, entered, orders, speaker), daemon=True).start()
    if (body := read(source)) is not None:
        decode_enter(body)
        entered.set()
    while (body := read(source)) is not None:
        orders.put(decode_orders(body))
    os._exit(0)


if __name__ == "__main__":
    main()
