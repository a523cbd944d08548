"""Benchmarks of the engine run where workers do."""

import os
import sys

from mlx_server.workers.parent.environment import child_environment

MARK = "MLX_SERVER_BENCH_INSIDE"


def become_a_worker() -> None:
    """Start this program again in a worker's environment, unless that has been done. Call it before MLX is imported:
    the environment has another BLAS, which must be there before a process starts."""
    if MARK not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**child_environment(), MARK: "1"})
