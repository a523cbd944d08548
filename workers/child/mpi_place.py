"""`python -m mlx_server.workers.child.mpi_place`: what `mpirun` starts for each rank. It tells on standard output what
the rank's own process needs in its environment, and keeps the rank's place.

It ends with mpirun, which would not end with the process that has started it: rank 0's place sees to that.
"""

from __future__ import annotations

import ctypes.util
import json
import os
import sys
import time
from pathlib import Path

import psutil

NAMES = ("OMPI_", "OPAL_", "PMIX_", "PRTE_")
RANK = "OMPI_COMM_WORLD_RANK"
LIBRARY = "MLX_MPI_LIBNAME"
LOOK_EVERY_S = 0.25


def library(prefix: str) -> str | None:
    """Open MPI's library: beside its programs, else where the system looks. None if it is not found. MLX would look for
    Linux's `libmpi.so`, which is for those who compile: it may be missing, or a text for linkers."""
    folder = Path(prefix, "lib")
    beside = (str(file) for ending in ("so.*", "*dylib") for file in sorted(folder.glob(f"libmpi.{ending}")))
    return next(beside, None) or ctypes.util.find_library("mpi")


def main() -> None:
    """Entry point of the process, with the folder that Open MPI is in and the process that has started mpirun."""
    prefix, owner = sys.argv[1], int(sys.argv[2])
    told = {name: value for name, value in os.environ.items() if name.startswith(NAMES)}
    if found := os.environ.get(LIBRARY) or library(prefix):
        told[LIBRARY] = found
    os.write(sys.stdout.fileno(), json.dumps(told).encode() + b"\n")  # at once: no other's comes between
    mpirun = psutil.Process(os.getppid())
    while os.getppid() == mpirun.pid:
        if told[RANK] == "0" and mpirun.ppid() != owner:
            mpirun.terminate()  # twice would be told as an abort
            return
        time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    main()
