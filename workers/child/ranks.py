"""The other ranks of a model that is spread over several hosts, from rank 0: its children, here or by ssh.

They are not started by `mlx.launch`, which shows nobody a rank's own death, ends none that hangs, and would put itself
between the supervisor and rank 0. They get the same environment. Orders go through a child's standard input: by ssh
that is a connection which is authenticated and encrypted already, and its end is told at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from importlib.metadata import version
from typing import Any, assert_never

from mlx_server.schemas.internal.hosts import Host, Hosts
from mlx_server.schemas.internal.messages import Load
from mlx_server.workers.child.mpi import Mpirun
from mlx_server.workers.engine.ranks.orders import (
    HEAD_BYTES,
    Alive,
    Enter,
    FromRank,
    Hello,
    Join,
    Order,
    Refused,
    Resolved,
    decode_from_rank,
    frame,
)
from mlx_server.workers.errors import ModelLoadError

LOCAL = ("127.0.0.1", "localhost", "::1")
COMMAND = (sys.executable, "-P", "-m", "mlx_server.workers.child.rank")
SSH = ("ssh", "-T", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR")

SSH_FAILED = 255
"""The exit code of ssh for a fault of its own, which it tells on stderr."""

STDERR = 2

START_S = 60.0
"""How long a rank's process may take until it says hello: by ssh, with all its imports."""

CAUSE_S = 0.5
"""How long the end of a rank may take to be told here, after rank 0 has failed of it."""

PACKAGES = ("mlx", "mlx-lm", "mlx-server")


def versions() -> dict[str, str]:
    """Of what has to be the same everywhere."""
    return {name: version(name) for name in PACKAGES}


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])


class RankLost(Exception):  # noqa: N818 - named for the fact
    """Raised when a rank ended, was silent or refused to go on."""


class RankProcess:
    """One rank's process. `send` is for any one thread at a time, the rest for the event loop's."""

    def __init__(self, rank: int, host: Host, hosts: Hosts) -> None:
        """Starts it. Raises OSError."""
        self._name = f"rank {rank} ({host.ssh})"
        self._silence_s = hosts.heartbeat_s
        self._host = host.ssh
        command: tuple[str, ...] = COMMAND
        if host.ssh not in LOCAL:
            command = (*SSH, host.ssh, shlex.join(("env", *hosts.envs, *COMMAND)))
        self._process = subprocess.Popen(  # noqa: S603 - our own module, or ssh
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=STDERR, env=os.environ | hosts.environment
        )
        self._reader = asyncio.StreamReader()

    async def hello(self) -> Hello:
        """What it says first. Raises RankLost, also of one that runs other versions than this process."""
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._reader), self._process.stdout
        )
        found = await self._next(START_S)
        if not isinstance(found, Hello):
            raise RankLost(f"{self._name} did not say what it runs")
        if found.versions != versions():
            raise RankLost(f"{self._name} runs {found.versions}, this one {versions()}: they have to be the same")
        return found

    async def listen(self, on_resolved: Callable[[], None]) -> None:
        """Hear its heartbeats, and that it has found the model. Raises RankLost, and does not return."""
        while True:
            match await self._next(self._silence_s):
                case Alive():
                    pass
                case Resolved():
                    on_resolved()
                case Refused(message):
                    raise RankLost(f"{self._name}: {message}")
                case Hello():
                    raise RankLost(f"{self._name} said hello twice")
                case other:
                    assert_never(other)

    def send(self, encoded: bytes) -> None:
        """Write a frame. Raises OSError."""
        assert self._process.stdin is not None
        self._process.stdin.write(encoded)
        self._process.stdin.flush()

    async def _next(self, patience_s: float) -> FromRank:
        try:
            async with asyncio.timeout(patience_s):
                length = int.from_bytes(await self._reader.readexactly(HEAD_BYTES), "big")
                return decode_from_rank.decode(await self._reader.readexactly(length))
        except TimeoutError:
            raise RankLost(f"{self._name} was silent for more than {patience_s:g} s") from None
        except asyncio.IncompleteReadError:
            code = await asyncio.to_thread(self._process.wait)
            if code == SSH_FAILED and self._host not in LOCAL:
                tried = shlex.join((*SSH, self._host, "true"))
                raise RankLost(f"{self._name} can't be reached: `{tried}` has to work on this machine") from None
            raise RankLost(f"{self._name} {how_it_ended(code)}") from None


class Ranks:
    """Ranks 1 and up. `enter`, `send` and `lost` are for the engine thread, the rest for the event loop's."""

    def __init__(self, load: Load, on_lost: Callable[[str], None]) -> None:
        """`on_lost` is called on the loop with the reason. Starts them. Raises ModelLoadError."""
        if load.hosts is None or load.model_type != "lm":
            raise ModelLoadError("--hosts is for models that write text, served as lm")
        self._load = load
        self._hosts = load.hosts
        self._loop = asyncio.get_running_loop()
        self._on_lost = on_lost
        self._processes: list[RankProcess] = []
        self._mpirun = Mpirun(self._hosts) if self._hosts.backend == "mpi" else None
        self._resolved: Future[None] = Future()
        """Ends once all have found the model, or one is lost."""
        self._unresolved = len(self._hosts.hosts) - 1
        self.join: Join
        """What rank 0 joins with, once they have met."""
        for rank, host in enumerate(self._hosts.hosts[1:], 1):
            try:
                self._processes.append(RankProcess(rank, host, self._hosts))
            except OSError as error:
                raise ModelLoadError(f"rank {rank} can't be started: {error}") from None

    async def meet(self) -> None:
        """Have them join. Raises ModelLoadError."""
        try:
            hellos = await asyncio.gather(*(process.hello() for process in self._processes))
            ports = [free_port(), *(hello.port for hello in hellos)]
            places = await self._mpirun.places(len(ports), START_S) if self._mpirun is not None else None
            self.join, *others = joins(self._load, self._hosts, ports, places)
            for process, join in zip(self._processes, others, strict=True):
                process.send(frame(join))
        except (RankLost, OSError) as error:
            raise ModelLoadError(str(error)) from None

    async def watch(self) -> None:
        """Call `on_lost` with the first that can't go on."""
        try:
            await asyncio.gather(
                *(process.listen(self._one_resolved) for process in self._processes), self._watch_mpirun()
            )
        except RankLost as error:
            if not self._resolved.done():
                self._resolved.set_exception(ModelLoadError(str(error)))
            self._on_lost(str(error))

    async def _watch_mpirun(self) -> None:
        if self._mpirun is not None:
            code = await self._mpirun.ended()
            await asyncio.sleep(CAUSE_S)  # it also ends of a rank's end
            raise RankLost(f"mpirun {how_it_ended(code)}")

    def _one_resolved(self) -> None:
        self._unresolved -= 1
        if not self._unresolved and not self._resolved.done():
            self._resolved.set_result(None)

    def enter(self) -> None:
        """Wait until all have found the model, however long they take, and have them meet. Raises ModelLoadError.

        MLX holds the interpreter while it waits for a rank: none may wait for another's download there."""
        self._resolved.result()
        try:
            self._send(frame(Enter()))
        except OSError as error:
            raise ModelLoadError(f"a rank can't be told to meet the others: {error}") from None

    def send(self, orders: list[Order]) -> None:
        """Have all ranks carry out orders. Raises OSError."""
        self._send(frame(orders))

    def _send(self, encoded: bytes) -> None:
        for process in self._processes:
            process.send(encoded)

    def lost(self, reason: str) -> None:
        """Have `on_lost` called; a rank whose end is the cause of this is told of first."""
        self._loop.call_soon_threadsafe(self._loop.call_later, CAUSE_S, self._on_lost, reason)


def joins(load: Load, hosts: Hosts, ports: list[int], places: list[dict[str, str]] | None = None) -> list[Join]:
    """For each rank what MLX's backend reads of its environment, as `mlx.launch` of MLX 0.32 has it; with the ranks'
    places if mpirun keeps them."""
    environment = hosts.environment
    files: dict[str, Any] = {}
    first = next(iter(hosts.hosts[0].ips), "")
    match hosts.backend:
        case "ring":
            files["MLX_HOSTFILE"] = [
                [f"{ip}:{port}" for ip in host.ips] for host, port in zip(hosts.hosts, ports, strict=True)
            ]
        case "nccl":
            environment |= {"NCCL_HOST_IP": first, "NCCL_PORT": str(ports[0]), "MLX_WORLD_SIZE": str(len(ports))}
        case "jaccl" | "jaccl-ring":
            environment["MLX_JACCL_COORDINATOR"] = f"{first}:{ports[0]}"
            files["MLX_IBV_DEVICES"] = [host.rdma for host in hosts.hosts]
            if hosts.backend == "jaccl-ring":
                environment["MLX_JACCL_RING"] = "1"
    written = {name: json.dumps(content) for name, content in files.items()}
    found = []
    for rank, host in enumerate(hosts.hosts):
        own = (places[rank] if places is not None else {}) | environment
        if hosts.backend == "nccl":
            own["CUDA_VISIBLE_DEVICES"] = str(sum(other.ssh == host.ssh for other in hosts.hosts[:rank]))
        found.append(Join(rank, load, own, written))
    return found


def how_it_ended(code: int) -> str:
    """A process's exit code in words."""
    if code < 0:
        with suppress(ValueError):
            return f"died of {signal.Signals(-code).name}"
    return f"ended with code {code}"
