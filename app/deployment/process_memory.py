"""Memory that processes occupy."""

from __future__ import annotations

import contextlib

import psutil

from mlx_server.app.machine.processes import descendants
from mlx_server.schemas.internal.messages import MlxMemory


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and of all that descend from it; 0 for one that is gone.

    Looks at every process of the machine to find the descendants: milliseconds, so not for each request.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return sum(_own_bytes(one) for one in (process, *descendants(process)))
    return 0


def occupied_bytes(resident: int, mlx: MlxMemory | None) -> int:
    """What a worker takes of the machine's memory: what is resident, or MLX's arrays where they are more.

    What a GPU on Metal holds does not all count as the process's own.
    """
    return max(resident, mlx.active if mlx is not None and mlx.unified else 0)


PURPOSES = ("weights", "prompts", "features", "running", "mlx_cache", "rest")
"""What a worker's memory is for: weights, kept prompts, features of pictures, what runs (KV states, drafts, what is
being computed), what MLX keeps for reuse, and the rest of its process: Python, libraries, tokenizer and grammars."""


def by_purpose(pid: int, mlx: MlxMemory, weights: int) -> dict[str, int]:
    """A worker's own memory by purpose, in bytes, without the processes that it started."""
    weights = min(weights, mlx.active)
    process = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = _own_bytes(psutil.Process(pid))
    return {
        "weights": weights,
        "prompts": mlx.prompts,
        "features": mlx.features,
        "running": max(0, mlx.active - weights - mlx.prompts - mlx.features),
        "mlx_cache": mlx.cache,
        "rest": max(0, process - (mlx.active + mlx.cache if mlx.unified else 0)),
    }


def _own_bytes(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return int(process.memory_info().rss)
    return 0
