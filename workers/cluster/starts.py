"""The front end's side of a cluster: places for replicas, and connections to their workers. Knows no Ray."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import subprocess
from collections.abc import Callable

from mlx_server.workers.channel import Channel
from mlx_server.workers.cluster.orders import (
    Address,
    Free,
    Joined,
    NoCluster,
    NotPlaced,
    Place,
    Recalled,
    Report,
    Waits,
    decode_report,
)
from mlx_server.workers.cluster.tls import Identity, context_of, make_identity
from mlx_server.workers.parent.handle import NoPlace, StartRefused
from mlx_server.workers.parent.printed import tell
from mlx_server.workers.parent.starts import Wanted, bury, start

BROKER = "mlx_server.workers.cluster.broker"

NO_OTHER_CLUSTER = {"RAY_ENABLE_AUTO_CONNECT": "0"}
"""Ray, where it has lost its connection, starts no cluster of its own on the front end's machine."""

CALL_S = 30.0
"""How long a worker may take until it has been reached: its interpreter starts meanwhile."""

LEAVE_S = 5.0
"""How long the broker may take to leave the cluster."""

SERVED_TYPES = ("lm", "vlm", "embeddings", "rerank", "scripted")
"""Of models; files of sounds and drawn pictures lie on the front end's disk."""

log = logging.getLogger(__name__)


class ClusterError(OSError):
    """Raised when Ray could not start a worker, or it can't be reached; the message is one line."""


class Cluster:
    """One for a server, at an address as Ray takes it. Has a broker process while it is needed."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._numbers = itertools.count()
        self._identity: Identity | None = None
        self._broker: subprocess.Popen[bytes] | None = None
        self._channel: Channel[Report] | None = None
        self._starting = asyncio.Lock()
        self._joined = False
        """A broker has been there: the address is right."""
        self._waiting: dict[int, asyncio.Future[Address]] = {}
        self._recalls: dict[int, Callable[[], None]] = {}

    def replica(self, model: str, needs_bytes: int, recalled: Callable[[], None]) -> ClusterStarts:
        """Who starts the workers of a replica that needs so many bytes of its node. `recalled` is called where it
        has to give up its place: another front end waits for it, and this one has another replica of the model, or its
        node is being drained."""
        number = next(self._numbers)
        self._recalls[number] = recalled
        return ClusterStarts(self, number, model, needs_bytes)

    async def place(self, replica: int, model: str, needs_bytes: int, wanted: Wanted, model_type: str) -> ClusterWorker:
        """A worker process that waits to be called; waits for a node with room. Raises ClusterError, StartRefused or
        NoPlace."""
        own = await self._own()
        number = next(self._numbers)
        found = self._waiting[number] = asyncio.get_running_loop().create_future()
        order = Place(number, replica, model, needs_bytes, wanted, model_type, own.certificate)
        try:
            async with self._starting:
                channel = self._channel or await self._start()
            channel.send(order)
            address = await found
        finally:
            del self._waiting[number]
        return ClusterWorker(address, own)

    def free(self, replica: int) -> None:
        """A replica is over."""
        self._recalls.pop(replica, None)
        if self._channel is not None:
            self._channel.send(Free(replica))

    async def close(self) -> None:
        """End the broker, and all of its agents with it. Idempotent."""
        if self._channel is not None:
            self._channel.close()
        broker, self._broker = self._broker, None
        if broker is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(broker.wait, LEAVE_S)
            await asyncio.to_thread(bury, broker)

    async def _own(self) -> Identity:
        async with self._starting:
            if self._identity is None:
                self._identity = await asyncio.to_thread(make_identity)
            return self._identity

    async def _start(self) -> Channel[Report]:
        await self.close()  # one that has died
        self._broker, ours = start(BROKER, self._address, env=os.environ | NO_OTHER_CLUSTER)
        tell(self._broker)
        channel: Channel[Report] = Channel(decode_report, self._on_report, self._on_closed)
        self._channel = channel
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=ours)
        return channel

    def _on_report(self, report: Report) -> None:
        if isinstance(report, Joined):
            self._joined = True
            return
        if isinstance(report, NoCluster):
            self._fail_all(f"the Ray cluster at {self._address} can't be reached: {report.reason}")
            return
        if isinstance(report, Recalled):
            if (recalled := self._recalls.get(report.replica)) is not None:
                log.info("a replica gives up its place: %s", report.why)
                recalled()
            return
        if isinstance(report, Waits):
            if report.full:
                log.warning("a replica waits for a node with room: it needs 1 CPU, mlx_memory %d", report.bytes)
            else:
                log.info("a replica waits for Ray, which has not started its agent yet")
            return
        found = self._waiting.get(report.number)
        if found is None or found.done():
            return
        if isinstance(report, NotPlaced):
            found.set_exception(StartRefused(report.reason) if report.refused else ClusterError(report.reason))
        else:
            found.set_result(report)

    def _on_closed(self) -> None:
        self._channel = None
        self._fail_all("the process that talks to the Ray cluster ended")

    def _fail_all(self, reason: str) -> None:
        """Ray can't say where there is a place; where it never could, something is wrong with the address."""
        for found in self._waiting.values():
            if not found.done():
                found.set_exception(NoPlace(reason) if self._joined else StartRefused(reason))


class ClusterStarts:
    """Starts the workers of one replica on the node that Ray has for it."""

    distant = True

    def __init__(self, cluster: Cluster, replica: int, model: str, needs_bytes: int) -> None:
        self._cluster = cluster
        self._replica = replica
        self._model = model
        self._needs_bytes = needs_bytes

    async def start(self, wanted: Wanted, model_type: str) -> ClusterWorker:
        """A new process, as soon as a node has room for it. Raises ClusterError, StartRefused or NoPlace."""
        if model_type not in SERVED_TYPES:
            raise StartRefused(f"models of the type {model_type} are not served on a cluster")
        return await self._cluster.place(self._replica, self._model, self._needs_bytes, wanted, model_type)

    async def release(self) -> None:
        """The replica is over: its place is free."""
        self._cluster.free(self._replica)


class ClusterWorker:
    """A worker process on a node, and the connection to it: what ends the one ends the other."""

    def __init__(self, address: Address, own: Identity, call_s: float = CALL_S) -> None:
        self._address = address
        self._call_s = call_s
        self._own = own
        self._transport: asyncio.Transport | None = None

    @property
    def pid(self) -> None:
        """It is no process of this machine."""
        return None

    @property
    def lives(self) -> bool:
        """It is connected."""
        return self._transport is not None and not self._transport.is_closing()

    async def connect(self, channel: asyncio.Protocol) -> None:
        """Call it. Raises OSError."""
        context = await asyncio.to_thread(context_of, self._own, self._address.certificate, calls=True)
        loop = asyncio.get_running_loop()
        host, port = self._address.host, self._address.port
        try:
            async with asyncio.timeout(self._call_s):
                self._transport, _ = await loop.create_connection(lambda: channel, host, port, ssl=context)
        except TimeoutError:
            raise ClusterError(f"node {host} did not answer at port {port} in {self._call_s:g} s") from None

    def kill(self) -> None:
        """Hang up: it ends then, or its agent ends it before the next one is started."""
        if self._transport is not None:
            self._transport.abort()

    async def ended(self, patience_s: float) -> None:
        """Nobody here waits for a process of another machine."""
        self.kill()

    def obituary(self) -> str:
        """How it ended, as far as it can be seen from here."""
        return f"The worker process on node {self._address.host} is gone"
