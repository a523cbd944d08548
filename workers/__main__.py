"""`python -m mlx_server.workers FD [LOG_LEVEL CACHE_DIR MODEL_TYPE...]`: a worker process that talks over a socket.

A socket that listens is one that it is called on. Without more words it is told them over the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from mlx_server.schemas.internal import messages
from mlx_server.workers.channel import Channel
from mlx_server.workers.child.process import WorkerProcess
from mlx_server.workers.log_lines import LineFormatter, quieten
from mlx_server.workers.parent.starts import told

SEND_BUFFER_BYTES = 1 << 13
"""Small, so that a front end that lags is noticed after some twenty steps and not after hundreds."""

WORKER_STACK_BYTES = 64 << 20
"""Of every thread: llguidance recurses as deeply as a grammar does, and grammars are tried on a quarter of this."""

SWITCH_INTERVAL_S = 0.001
"""How long the engine thread may keep the interpreter while the loop has tokens to send."""

EXIT_GRACE_S = 1.0
"""How long a step that is under way may take to end; after that the process goes without: nothing is lost by it."""


async def serve(sock: socket.socket, log_level: str, cache_dir: Path, model_types: Sequence[str]) -> int:
    """Work until told to stop or until the parent is gone; returns the exit code."""
    worker = WorkerProcess(cache_dir, model_types)
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter("worker", "json", worker.request_id))
    logging.basicConfig(level=log_level.upper(), handlers=[handler])
    quieten()
    channel = Channel(messages.decode_to_worker, worker.on_message, lambda: worker.end(0), worker.on_writable)
    worker.attach(channel)
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        from mlx_server.workers.cluster.meeting import meet

        await meet(sock, channel, worker.end)
    else:
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=sock)
    code = await worker.exit_code
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(worker.close(), EXIT_GRACE_S)
    return code


def main() -> None:
    """Entry point of the process. Ctrl-C and SIGTERM are the parent's to handle: it drains first, then says Stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    threading.stack_size(WORKER_STACK_BYTES)
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    if not (words := sys.argv[2:] or told(sock)):
        return  # nobody has wanted it
    sock.setblocking(False)
    log_level, cache_dir, *model_types = words
    # Its usual place is beside the source, where a worker does not write.
    os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(cache_dir, "numba")))
    code = asyncio.run(serve(sock, log_level, Path(cache_dir), model_types))
    logging.shutdown()
    # An engine thread that hangs must not keep the process: nothing is left to save.
    os._exit(code)


if __name__ == "__main__":
    main()
