"""The environment a worker process is started with: what must be settled before MLX is loaded."""

from __future__ import annotations

import ctypes.util
import os
import sys
from collections.abc import Mapping
from importlib import metadata


def openblas() -> str | None:
    """The system's OpenBLAS, as the dynamic linker names it; None off Linux or where there is none."""
    return ctypes.util.find_library("openblas") if sys.platform == "linux" else None


def mlx_backends() -> set[str]:
    """Which of MLX's backends are installed: `cpu`, `cuda`, `metal`. Does not load MLX."""
    names = {"cpu": ("mlx-cpu",), "cuda": ("mlx-cuda-12", "mlx-cuda-13"), "metal": ("mlx-metal",)}
    return {kind for kind, packages in names.items() if any(map(is_installed, packages))}


def is_installed(distribution: str) -> bool:
    """Whether a distribution is installed here."""
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def child_environment(base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The parent's environment plus what a worker needs.

    MLX's CPU wheel carries an unoptimised single-threaded BLAS: OpenBLAS, preloaded, replaces its symbols.
    """
    env = dict(base)
    env["TOKENIZERS_PARALLELISM"] = "false"
    library = openblas()
    if library and mlx_backends() == {"cpu"} and library not in env.get("LD_PRELOAD", ""):
        env["LD_PRELOAD"] = " ".join(filter(None, [library, env.get("LD_PRELOAD")]))
    return env
