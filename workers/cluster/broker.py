"""`python -m mlx_server.workers.cluster.broker FD ADDRESS`: has Ray place and keep the agents of one front end.

A process of its own: Ray's threads stay away from the front end's event loop, and where Ray ends a driver it ends this
one. The actors are its job's, so that they end with it and never outlive their front end.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import ray
from ray.exceptions import RayError

from mlx_server.workers.channel import Channel
from mlx_server.workers.cluster.agent import Agent, VersionsDiffer, versions
from mlx_server.workers.cluster.orders import (
    Address,
    Joined,
    NoCluster,
    NotPlaced,
    Order,
    Place,
    Recalled,
    Waits,
    decode_order,
)
from mlx_server.workers.cluster.shares import Shares, Standing, needs_of

ANSWER_S = 3.0
"""How long an agent may take that has been there before. Ray needs half a minute to notice that a node is gone, and
would place others there meanwhile."""

END_S = 3.0
"""How long an agent may take to end its worker."""

NODE_ID = "ray.io/node-id"
"""The label that Ray gives each node."""

SAYS_S = 1.0
"""How often the other front ends are told how this one stands."""

ATTEMPTS = 3
"""To join as a client. The cluster forks a server for each one, from a process of many threads: some are dead at
once, and Ray has taken the connection back by then."""

WAITS_S = 5.0
"""How long a replica has no place until others are asked for one, and the front end is told."""


@dataclass
class Placed:
    """A replica's agent; `address`: of the last worker that it started; `recalled`: it is about to go; `full`: what was
    told of why it waits."""

    order: Place
    agent: Any
    since: float
    address: Address | None = None
    recalled: bool = False
    full: bool | None = None

    @property
    def served(self) -> bool:
        """It has started a worker before."""
        return self.address is not None


def new_agent(needs_bytes: int, shunned: str | None = None) -> Any:
    """One that Ray places where there is room, away from the others, on a GPU where the cluster has any; on the node
    with the id `shunned` only where no other one has room."""
    needs = needs_of(needs_bytes, bool(ray.cluster_resources().get("GPU")))
    agent = ray.remote(Agent).options(
        num_cpus=needs.pop("CPU"),
        num_gpus=needs.pop("GPU", 0),
        resources=needs or None,
        scheduling_strategy="SPREAD",
        label_selector={NODE_ID: f"!{shunned}"} if shunned else None,
        fallback_strategy=[{"label_selector": {}}] if shunned else None,
        max_restarts=-1,
        max_task_retries=-1,
    )
    return agent.remote()


def shares() -> Any:
    """The actor that all front ends share. It ends with the one that made it, and another makes the next."""
    return ray.remote(Shares).options(name="shares", namespace="mlx-server", get_if_exists=True, num_cpus=0).remote()


class Broker:
    """Answers orders, each as soon as it can. Everything here runs on its event loop."""

    def __init__(self, make_agent: Callable[[int, str | None], Any] = new_agent, answer_s: float = ANSWER_S) -> None:
        self._make_agent = make_agent
        self._answer_s = answer_s
        self.closed = asyncio.Event()
        self.channel: Channel[Order] = Channel(decode_order, self._on_order, self.closed.set)
        self._placed: dict[int, Placed] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        """The last one of each replica."""
        self._versions = versions()

    def _on_order(self, order: Order) -> None:
        if (before := self._tasks.get(order.replica)) is not None:
            before.cancel()
        work = self._place(order) if isinstance(order, Place) else self._free(order.replica)
        self._tasks[order.replica] = asyncio.ensure_future(work)

    async def _place(self, order: Place) -> None:
        try:
            address = await self._started(order)
        except Exception as error:  # noqa: BLE001 - without its connection Ray raises anything, and the order waits
            lines = str(error).strip().splitlines() or [type(error).__name__]
            if (placed := self._placed.pop(order.replica, None)) is not None:
                kill(placed.agent)  # the next order gets another
            differs = isinstance(getattr(error, "cause", error), VersionsDiffer)
            self.channel.send(NotPlaced(order.number, lines[-1], differs))
            self._end_with_ray()
        else:
            self.channel.send(address)

    async def _started(self, order: Place) -> Address:
        silent = None
        placed = self._placed.get(order.replica)
        if placed is not None and placed.address is not None:
            try:
                return await self._start(placed, order, self._answer_s)
            except TimeoutError:
                silent = placed.address.node
                kill(placed.agent)
                placed = None
        if placed is None:
            agent, now = self._make_agent(order.bytes, silent), asyncio.get_running_loop().time()
            placed = self._placed[order.replica] = Placed(order, agent, now)
        return await self._start(placed, order)

    async def _start(self, placed: Placed, order: Place, limit_s: float | None = None) -> Address:
        found: Address = await answer(placed.agent.start.remote(order, self._versions), limit_s)
        placed.address = found
        return found

    async def _free(self, replica: int) -> None:
        placed = self._placed.pop(replica, None)
        if placed is None:
            return
        if placed.served:
            with suppress(Exception):  # its node is gone, or hangs, or Ray is gone, which raises anything
                await answer(placed.agent.end.remote(), END_S)
        kill(placed.agent)

    def _end_with_ray(self) -> None:
        """Without Ray this process is of no use: the front end starts another when it needs one."""
        if not ray.is_initialized():
            self.channel.close()

    async def share(self) -> None:
        """Tell the other front ends how this one stands, and give up what is asked for and what is on nodes that are
        taken away, until Ray is gone."""
        who, agreed = uuid4().hex, None
        while ray.is_initialized():
            await asyncio.sleep(SAYS_S)
            try:
                agreed = agreed or shares()
                self.give_up(await answer(agreed.say.remote(who, self._standing()), ANSWER_S))
                self.leave(await answer(agreed.leaving.remote(), ANSWER_S))
                for placed in self._late():
                    self.tell(placed, await answer(agreed.full.remote(placed.order.bytes), ANSWER_S))
            except Exception:  # noqa: BLE001 - that actor is gone, or Ray is, which raises anything
                agreed = None
        self._end_with_ray()

    def give_up(self, least: int | None) -> None:
        """Another front end waits for a replica with at least so many bytes, if any does."""
        if least is not None:
            spare = (replica for replica, placed in self._spare().items() if placed.order.bytes >= least)
            if (replica := next(spare, None)) is not None:
                self._recall(replica, "another front end waits for it")

    def leave(self, nodes: Collection[str]) -> None:
        """The nodes with these ids are about to be taken away: replicas there move, and end what they run before."""
        for replica, placed in self._placed.items():
            if placed.address is not None and placed.address.node in nodes and not placed.recalled:
                self._recall(replica, f"its node {placed.address.host} is being drained")

    def tell(self, placed: Placed, full: bool) -> None:
        """Tell the front end why a replica waits, where that is new."""
        if not placed.served and placed.full != full:
            placed.full = full
            self.channel.send(Waits(placed.order.bytes, full))

    def _recall(self, replica: int, why: str) -> None:
        self._placed[replica].recalled = True
        self.channel.send(Recalled(replica, why))

    def _standing(self) -> Standing:
        return Standing(
            sum(one.served and not one.recalled for one in self._placed.values()),
            tuple(one.order.bytes for one in self._spare().values()),
            tuple(one.order.bytes for one in self._late()),
        )

    def _late(self) -> list[Placed]:
        """Replicas that have waited for a place."""
        now = asyncio.get_running_loop().time()
        return [one for one in self._placed.values() if not one.served and now - one.since > WAITS_S]

    def _spare(self) -> dict[int, Placed]:
        """Replicas of models that have others, the last one first."""
        held = {replica: one for replica, one in self._placed.items() if one.served and not one.recalled}
        models = Counter(one.order.model for one in held.values())
        return {replica: one for replica, one in reversed(held.items()) if models[one.order.model] > 1}


def kill(agent: Any) -> None:
    """End an agent and its worker at once, if Ray is there."""
    if ray.is_initialized():
        with suppress(Exception):  # it is gone, or Ray has gone by now
            ray.kill(agent)


async def answer(reference: Any, limit_s: float | None = None) -> Any:
    """What an actor's method returns. Raises TimeoutError, and what it raises."""
    return await asyncio.wait_for(asyncio.wrap_future(reference.future()), limit_s)


def join(address: str, attempts: int = ATTEMPTS) -> NoCluster | None:
    """Become a driver of a cluster; returns why it can't be done."""
    try:
        ray.init(address, log_to_driver=False, logging_level="error")
    except ConnectionAbortedError as error:
        return join(address, attempts - 1) if attempts > 1 else no_cluster(error)
    except (OSError, RayError, RuntimeError, ValueError) as error:
        return no_cluster(error)
    return None


def no_cluster(error: Exception) -> NoCluster:
    """What became of an attempt to join one, in a line."""
    return NoCluster(" ".join(str(error).split()) or type(error).__name__)


async def serve(sock: socket.socket, address: str) -> None:
    """Work until the front end is gone."""
    broker = Broker()
    problem = join(address)
    # What was ordered meanwhile waits in the socket.
    await asyncio.get_running_loop().create_connection(lambda: broker.channel, sock=sock)
    broker.channel.send(problem or Joined())
    if problem is not None:
        broker.channel.close()
    sharing = asyncio.ensure_future(broker.share()) if problem is None else None
    await broker.closed.wait()
    if sharing is not None:
        sharing.cancel()


def main() -> None:
    """Entry point of the process."""
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.setblocking(False)
    asyncio.run(serve(sock, sys.argv[2]))
    if ray.is_initialized():
        ray.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main()
