"""`mpirun`, from rank 0, whose child it is: it starts no rank, but keeps a place for each and says how to take it.

What makes a process a rank of MPI's is its environment, by which the library finds mpirun's daemon on the same machine.
So ranks are started, told and heard as with any other backend.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

from mlx_server.schemas.internal.hosts import Hosts
from mlx_server.workers.child.mpi_place import RANK
from mlx_server.workers.errors import ModelLoadError

PLACE = (sys.executable, "-P", "-m", "mlx_server.workers.child.mpi_place")
DEFAULTS = {"OMPI_MCA_smsc": "^cma"}
"""A process that writes in its own folders only may not read another's memory, as ranks of one machine would."""

STDERR = 2


class Mpirun:
    """For the event loop."""

    def __init__(self, hosts: Hosts) -> None:
        """Starts it. Raises ModelLoadError."""
        program = shutil.which("mpirun") or shutil.which("mpirun", path=str(Path(sys.executable).parent))
        if program is None:
            raise ModelLoadError("the backend mpi needs Open MPI (docs/scale.md): there is no mpirun here")
        place = (*PLACE, str(Path(program).parent.parent), str(os.getpid()))
        apps = [("-n", "1", "--host", host.ssh, *place, ":") for host in hosts.hosts]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - mpirun, whatever its path
                [program, "--allow-run-as-root", "--oversubscribe", *chain(*apps)][:-1],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=STDERR,
                env=os.environ | DEFAULTS | hosts.environment,
                # It removes its files once rank 0 is gone, whose whole group is killed then.
                start_new_session=True,
            )
        except OSError as error:
            raise ModelLoadError(f"mpirun can't be started: {error}") from None
        self._reader = asyncio.StreamReader()

    async def places(self, ranks: int, patience_s: float) -> list[dict[str, str]]:
        """What each of so many ranks has in its environment. Raises ModelLoadError."""
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._reader), self._process.stdout
        )
        try:
            async with asyncio.timeout(patience_s):
                found = [json.loads(await self._reader.readuntil()) for _ in range(ranks)]
        except (TimeoutError, asyncio.IncompleteReadError, ValueError):
            raise ModelLoadError("mpirun did not start a process for each rank") from None
        return sorted(found, key=lambda place: int(place[RANK]))

    async def ended(self) -> int:
        """Its exit code, once it has ended."""
        while await self._reader.read(1 << 10):
            pass
        return await asyncio.to_thread(self._process.wait)
