"""How a broker joins a cluster, and what it does without: with Ray's place taken, whose servers for clients die at
random."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
import ray
from msgspec.structs import replace
from support.running.fleets import until

from mlx_server.workers.cluster.agent import VersionsDiffer
from mlx_server.workers.cluster.broker import ATTEMPTS, Broker, join
from mlx_server.workers.cluster.orders import (
    Address,
    Free,
    NoCluster,
    NotPlaced,
    Place,
    Recalled,
    Report,
    Waits,
    decode_report,
)
from mlx_server.workers.parent.starts import Wanted

ADDRESS = "ray://127.0.0.1:10001"
THERE = Address(2, "10.0.0.2", 4000, "certificate", "second")
ELSEWHERE = Address(2, "10.0.0.3", 4000, "certificate", "third")
LOST = Exception("Ray Client is not connected.\nPlease connect.")


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ([ConnectionAbortedError("dead\n at once")] * (ATTEMPTS - 1), None),
        ([ConnectionAbortedError("dead\n at once")] * ATTEMPTS, "dead at once"),
        ([ConnectionError("no answer")], "no answer"),
    ],
    ids=["in the end", "never", "nobody is there"],
)
def test_a_cluster_that_ends_the_connection_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, errors: list[Exception], reason: str | None
) -> None:
    left = list(errors)

    def init(address: str, **_: object) -> None:
        assert address == ADDRESS
        if left:
            raise left.pop(0)

    monkeypatch.setattr(ray, "init", init)
    assert join(ADDRESS) == (reason and NoCluster(reason))
    assert left == []


class Front:
    """The front end's end of a broker's connection."""

    def __init__(self) -> None:
        self.told: list[Report] = []
        self.left = False

    def write(self, frame: bytes) -> None:
        self.told.append(decode_report(frame[4:]))

    def close(self) -> None:
        self.left = True

    def is_closing(self) -> bool:
        return self.left

    def set_write_buffer_limits(self, high: int) -> None:
        pass


class Answers:
    """An agent, or a method of its: raises at once what Ray does, or has these answers as Ray gives them, the last one
    again and again; None: it is silent."""

    def __init__(self, *found: Any) -> None:
        self._found = list(found)
        self.start = self.end = self

    def remote(self, *_: object) -> Answers:
        if self._found[0] is LOST:
            raise LOST
        return self

    def future(self) -> Future[Any]:
        answer = self._found.pop(0) if self._found[1:] else self._found[0]
        found: Future[Any] = Future()
        if isinstance(answer, Exception):
            found.set_exception(answer)
        elif answer is not None:
            found.set_result(answer)
        return found


class Wrapped(Exception):  # noqa: N818 - as Ray wraps what an actor raised
    def __init__(self, cause: Exception) -> None:
        super().__init__(f"a traceback\n{cause}")
        self.cause = cause


def order(number: int) -> Place:
    return Place(number, 0, "model", 0, Wanted(None, "info", ""), "lm", "certificate")


def broker_of(*agents: Answers) -> tuple[Broker, Front, Callable[[Any], None]]:
    """One that is connected, which has these agents made, and what gives it an order."""
    left, front = list(agents), Front()
    broker = Broker(lambda *_: left.pop(0))
    broker.channel.connection_made(front)  # type: ignore[arg-type]
    return broker, front, broker._on_order


def test_an_order_is_answered_when_ray_is_gone_and_the_broker_ends() -> None:
    async def scenario() -> None:
        _, front, give = broker_of(Answers(LOST))
        give(order(1))
        await until(lambda: front.left)
        assert front.told == [NotPlaced(1, "Please connect.")]

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [LOST, OSError("no such program"), Wrapped(VersionsDiffer("other versions"))])
def test_an_agent_that_fails_is_replaced(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    ended: list[Any] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "kill", ended.append)
    fails, works = Answers(error), Answers(THERE)

    async def scenario() -> None:
        _, front, give = broker_of(fails, works)
        give(order(1))
        await until(lambda: front.told)
        [failed] = front.told
        assert isinstance(failed, NotPlaced)
        assert failed.refused == isinstance(error, Wrapped)
        assert ended == [fails]
        give(order(2))
        await until(lambda: front.told[1:])
        assert front.told[1:] == [THERE]
        give(Free(0))
        await until(lambda: ended == [fails, works])

    asyncio.run(scenario())


def test_an_agent_that_is_silent_is_replaced_on_another_node(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Any] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "kill", ended.append)
    agents = [Answers(THERE, None), Answers(ELSEWHERE)]
    left, made = list(agents), []

    def make(needs_bytes: int, shunned: str | None) -> Answers:
        made.append((needs_bytes, shunned))
        return left.pop(0)

    async def scenario() -> None:
        broker, front = Broker(make, answer_s=0.01), Front()
        broker.channel.connection_made(front)  # type: ignore[arg-type]
        for number in range(2):
            broker._on_order(order(number))
            await until(lambda number=number: len(front.told) == number + 1)
        assert front.told == [THERE, ELSEWHERE]
        assert ended == agents[:1]

    asyncio.run(scenario())
    assert made == [(0, None), (0, THERE.node)]


def test_replicas_leave_a_node_that_is_drained() -> None:
    """Each is told once, also the only one of its model."""

    async def scenario() -> None:
        broker, front, give = broker_of(Answers(THERE), Answers(ELSEWHERE))
        give(order(0))
        give(replace(order(1), replica=1, model="another"))
        await until(lambda: front.told[1:])
        for _ in range(2):
            broker.leave({THERE.node, "another"})
        assert front.told[2:] == [Recalled(0, "its node 10.0.0.2 is being drained")]

    asyncio.run(scenario())


def test_why_a_replica_waits_is_told_when_it_changes_and_no_more_once_it_is_there() -> None:
    async def scenario() -> None:
        broker, front, give = broker_of(Answers(None))
        give(replace(order(0), bytes=8))
        await until(lambda: broker._placed)
        [placed] = broker._placed.values()
        for full in (False, False, True):
            broker.tell(placed, full)
        assert front.told == [Waits(8, False), Waits(8, True)]
        placed.address = THERE
        broker.tell(placed, False)
        assert len(front.told) == 2

    asyncio.run(scenario())


def test_a_replica_is_freed_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Any] = []
    monkeypatch.setattr(ray, "kill", ended.append)

    async def scenario() -> None:
        broker, front, give = broker_of(Answers(THERE))
        give(order(2))
        await until(lambda: front.told)
        give(Free(0))
        await broker._tasks[0]

    asyncio.run(scenario())
    assert ended == []
