"""Trains the tiny vision-language model: `python tests/shapes/train.py --help`.

This part only starts `shapes.trainer` with the environment that MLX wants, which must be set before it is loaded. On a
CPU it starts two, each with half of every batch: much of MLX's work there runs in one thread.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from mlx_server.workers.parent.environment import child_environment, mlx_backends

TESTS = Path(__file__).resolve().parents[1]


def main(arguments: list[str], trainer: str = "shapes.trainer") -> int:
    """Run the processes of a trainer's module; returns the exit status of the first that fails, or 0."""
    ranks = 2 if mlx_backends() == {"cpu"} and not {"-h", "--help"} & set(arguments) else 1
    base = child_environment()
    base["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TESTS), base.get("PYTHONPATH")]))
    base["OPENBLAS_NUM_THREADS"] = os.environ.get("OPENBLAS_NUM_THREADS", "1")  # a process for each core
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        hosts = Path(folder) / "hosts.json"
        hosts.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_ports(ranks)]))
        together = {"MLX_HOSTFILE": str(hosts)} if ranks > 1 else {}
        pool = stack.enter_context(ThreadPoolExecutor(ranks))
        processes = [
            stack.enter_context(running(trainer, arguments, {**base, **together, "MLX_RANK": str(rank)}))
            for rank in range(ranks)
        ]
        ends = as_completed([pool.submit(process.wait) for process in processes])
        # One that fails leaves the other waiting for it.
        return next((status for end in ends if (status := end.result())), 0)


@contextmanager
def running(trainer: str, arguments: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """One trainer, which does not outlive the block."""
    process = subprocess.Popen([sys.executable, "-m", trainer, *arguments], env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens at."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def leave(*_: object) -> NoReturn:
    """End as after an interrupt, so that the trainers end too."""
    raise KeyboardInterrupt


def run(trainer: str = "shapes.trainer") -> NoReturn:
    """Be the script that starts this trainer with the command line's arguments."""
    signal.signal(signal.SIGTERM, leave)
    try:
        sys.exit(main(sys.argv[1:], trainer))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
