"""A process of its own: what MLX says of this machine, as JSON on standard output.

Run as a worker would be, so that what it finds is what a worker finds.
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx
import msgspec

from mlx_server.schemas.internal.machine import MlxFacts

SIDE = 512
LONGEST_S = 1.0


def matmul_gflops() -> float:
    """Float32 products of two square matrices, in 10^9 operations a second: the best of what fits into a second."""
    a, b = mx.random.normal((SIDE, SIDE)), mx.random.normal((SIDE, SIDE))
    mx.eval(a, b)
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < LONGEST_S:
        start = time.perf_counter()
        mx.eval(a @ b)
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best / 1e9


def preloaded_openblas() -> bool:
    """Whether OpenBLAS is loaded into this process; False where the system can't tell."""
    try:
        return "openblas" in Path("/proc/self/maps").read_text()
    except OSError:
        return False


def main() -> None:
    """Entry point."""
    info = mx.device_info()
    working_set = info.get("max_recommended_working_set_size")
    facts = MlxFacts(
        mlx=version("mlx"),
        device=mx.default_device().type.name,
        name=str(info.get("device_name") or info.get("architecture") or "unknown"),
        metal=mx.metal.is_available(),
        working_set_bytes=int(working_set) if working_set else None,
        openblas=preloaded_openblas(),
        gflops=round(matmul_gflops(), 1),
    )
    sys.stdout.buffer.write(msgspec.json.encode(facts))


if __name__ == "__main__":
    main()
