"""What the doctor looks at: read here, judged in `findings`."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mlx_server.app.machine.memory import Memory
from mlx_server.schemas.internal.machine import MlxFacts
from mlx_server.workers.engine.sandbox import landlock, no_internet
from mlx_server.workers.parent.environment import child_environment, is_installed, mlx_backends, openblas, usable_cores

PROBE_S = 60.0
WIRED_LIMIT, WIRED_LOW = "iogpu.wired_limit_mb", "iogpu.wired_lwm_mb"


@dataclass(frozen=True)
class Facts:
    """One machine. Bytes are bytes; `mlx` is what a worker's MLX says, or `mlx_error` why it says nothing.

    `wired_limit_mb` is macOS' own setting (0: the system decides), None elsewhere. `native_arm`: on a Mac, whether
    Python is built for Apple silicon. `packs`: what compiles products with packed weights is there. `keeps_to_folders`
    and `leaves_network`: what workers can give up here. `data_dir` and `cache_dir` are writable if their problem is
    None.
    """

    system: str
    python: str
    native_arm: bool
    backends: frozenset[str]
    openblas: str | None
    threads: str
    packs: bool
    keeps_to_folders: bool
    leaves_network: bool
    cores: int
    memory_bytes: int
    available_bytes: int
    cache_free_bytes: int
    cache_problem: str | None
    data_problem: str | None
    wired_limit_mb: int | None
    mlx: MlxFacts | None
    mlx_error: str | None


def gather(cache_dir: Path, data_dir: Path, memory: Memory) -> Facts:
    """Look at this machine, of which the server may use this memory; takes some seconds, since MLX is tried."""
    environment = child_environment()
    mlx, error = ask_mlx(environment)
    return Facts(
        system=platform.system(),
        python=platform.python_version(),
        native_arm=platform.machine() == "arm64",
        backends=frozenset(mlx_backends()),
        openblas=openblas(),
        threads=environment.get("OPENBLAS_NUM_THREADS", ""),
        packs=is_installed("numba"),
        keeps_to_folders=landlock.version() >= landlock.LEAST_VERSION,
        leaves_network=no_internet.is_possible(),
        cores=usable_cores(),
        memory_bytes=memory.total_bytes,
        available_bytes=memory.available_bytes,
        cache_free_bytes=free_bytes(cache_dir),
        cache_problem=write_problem(cache_dir),
        data_problem=write_problem(data_dir),
        wired_limit_mb=read_wired_limit() if sys.platform == "darwin" else None,
        mlx=mlx,
        mlx_error=error,
    )


def ask_mlx(environment: dict[str, str]) -> tuple[MlxFacts | None, str | None]:
    """What MLX says in a process like a worker's, or why it says nothing."""
    command = [sys.executable, "-P", "-m", "mlx_server.workers.engine.runtime.machine_probe"]
    try:
        done = subprocess.run(command, check=False, env=environment, capture_output=True, timeout=PROBE_S)  # noqa: S603
        if done.returncode == 0:
            return msgspec.json.decode(done.stdout, type=MlxFacts), None
    except (OSError, subprocess.TimeoutExpired, msgspec.MsgspecError) as error:
        return None, str(error)
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return None, lines[-1] if lines else f"it ended with code {done.returncode}"


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there and that this user can see."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))


def free_bytes(folder: Path) -> int:
    """Bytes that may be written there."""
    return shutil.disk_usage(existing(folder)).free


def write_problem(folder: Path) -> str | None:
    """Why nothing can be written to a folder, which need not be there yet; None if it can."""
    nearest = existing(folder)
    if not nearest.is_dir():
        return f"{nearest} is no folder"
    return None if os.access(nearest, os.W_OK | os.X_OK) else f"{nearest} can't be written to"


def read_wired_limit() -> int | None:
    """macOS' limit of memory that the GPU may hold, in MB; 0 where the system decides, None where it does not say."""
    command = ["/usr/sbin/sysctl", "-n", WIRED_LIMIT]
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=5)  # noqa: S603 - our own
        return int(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
