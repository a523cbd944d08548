"""The environment a worker process is started with: what must be settled before MLX is loaded."""

from __future__ import annotations

import ctypes.util
import math
import os
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from mlx_server.workers.cgroup import OWN, ROOT, cpu_quota
from mlx_server.workers.extras import install_line


def openblas() -> str | None:
    """The system's OpenBLAS, as the dynamic linker names it; None off Linux or where there is none."""
    return ctypes.util.find_library("openblas") if sys.platform == "linux" else None


def mlx_backends() -> set[str]:
    """Which of MLX's backends are installed: `cpu`, `cuda`, `metal`. Does not load MLX."""
    names = {"cpu": ("mlx-cpu",), "cuda": ("mlx-cuda-12", "mlx-cuda-13"), "metal": ("mlx-metal",)}
    return {kind for kind, packages in names.items() if any(map(is_installed, packages))}


def backend_problem(backends: set[str], platform: str = sys.platform) -> str | None:
    """Why MLX can't compute with these backends, and what to install; None if it can."""
    if platform == "darwin":
        return None
    if not backends:
        cpu, cuda = install_line("cpu", platform), install_line("cuda", platform)
        return f"MLX has no backend here. Install one: {cpu} (or for a GPU of NVIDIA's: {cuda})."
    if {"cpu", "cuda"} <= backends:
        cpu, cuda = install_line("cpu", platform), install_line("cuda", platform)
        return (
            "Both of MLX's backends are installed, and each overwrites the other's library. Uninstall both (pip"
            f" uninstall mlx-cpu mlx-cuda-12 mlx-cuda-13), then install one: {cpu} (or for a GPU of NVIDIA's: {cuda})."
        )
    return None


def is_installed(distribution: str) -> bool:
    """Whether a distribution is installed here."""
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def usable_cores(root: Path = ROOT, own: Path = OWN) -> int:
    """Processor cores that this process may use: those it is bound to, within its control group's quota."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root, own)
    return bound if quota is None else max(1, min(bound, math.ceil(quota)))


def child_environment(base: Mapping[str, str] = os.environ, threads: int | None = None) -> dict[str, str]:
    """The parent's environment plus what a worker needs.

    MLX's CPU wheel carries an unoptimised single-threaded BLAS: OpenBLAS, preloaded, replaces its symbols. It knows
    nothing of quotas, and with more threads than cores it is slower than with one. `threads`: how many it and numba
    get, all cores that there are if None.
    """
    env = dict(base)
    env["TOKENIZERS_PARALLELISM"] = "false"
    if mlx_backends() != {"cpu"}:
        return env
    cores = str(threads or usable_cores())
    env.setdefault("NUMBA_NUM_THREADS", cores)
    if library := openblas():
        if library not in env.get("LD_PRELOAD", ""):
            env["LD_PRELOAD"] = " ".join(filter(None, [library, env.get("LD_PRELOAD")]))
        env.setdefault("OPENBLAS_NUM_THREADS", cores)
    return env
