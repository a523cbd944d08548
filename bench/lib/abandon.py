"""How fast a place comes back when its client leaves: sockets closed while requests wait and run."""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any
from urllib.parse import SplitResult, urlsplit

from lib.connection import Connection, Exchange, connect, http_request
from lib.processes import ServerProcess
from lib.scripted import scripted_request
from lib.summary import percentiles_ms
from load import run_in_loop

REQUESTS = 200
ONE_BY_ONE = 50
AT_ONCE = 50
ROWS = 50
TOKENS = 60
INTERVAL_S = 0.1
GIVE_UP_S = 5.0


@dataclass(frozen=True, slots=True)
class AbandonResult:
    """`one_by_one_ms`: from closing a socket to the first `/v1/queue/stats` without that request.

    `at_once_ms`: the same for 50 sockets closed together, until the last is gone. `disturbed`: a request
    that was not abandoned ended in the meantime, so the times may be too short. `settled_ms`: from the
    last remaining request's end to statistics of zero. A time of `GIVE_UP_S` means never seen.
    """

    admitted: int
    one_by_one_ms: list[float]
    at_once_ms: float
    disturbed: bool
    rest_outcomes: dict[str, int]
    settled_ms: float
    final_stats: dict[str, Any]

    def figures(self) -> dict[str, Any]:
        times_s = [value / 1000 for value in self.one_by_one_ms]
        return asdict(self) | {
            "one_by_one_ms": percentiles_ms(times_s) | {"max": max(self.one_by_one_ms)},
        }


class Statistics:
    """Reads `/v1/queue/stats` over a connection of its own, opened anew when the server has closed it."""

    def __init__(self, url: SplitResult) -> None:
        self._url = url
        self._request = http_request("GET", url, f"{url.path}/queue/stats")
        self._connection: Connection | None = None

    async def read(self) -> dict[str, Any]:
        if self._connection is None or not self._connection.usable:
            self._connection = await connect(self._url)
        exchange = await self._connection.exchange(self._request)
        stats: dict[str, Any] = json.loads(exchange.body)["queue_stats"]
        return stats

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def wait_for(self, live: int) -> float:
        """Seconds until at most `live` requests wait or run; at least `GIVE_UP_S` when that is not seen."""
        started_s = perf_counter()
        while perf_counter() - started_s < GIVE_UP_S:
            if (await self.read())["active_requests"] <= live:
                return perf_counter() - started_s
        return GIVE_UP_S


def measure_abandon(server: ServerProcess, seed: int = 0) -> AbandonResult:
    """Needs a scripted server with `ROWS` rows and room for `REQUESTS` requests."""
    return run_in_loop(lambda: _abandon(server, seed))


async def _abandon(server: ServerProcess, seed: int) -> AbandonResult:
    url = urlsplit(server.url)
    stats = Statistics(url)
    connections = [await connect(url) for _ in range(REQUESTS)]
    request = scripted_request(server, TOKENS, INTERVAL_S)
    tasks = [asyncio.create_task(connection.exchange(request)) for connection in connections]
    admitted = await _admitted(stats)

    order = random.Random(seed).sample(range(REQUESTS), REQUESTS)
    single, burst = order[:ONE_BY_ONE], order[ONE_BY_ONE : ONE_BY_ONE + AT_ONCE]
    rest = [tasks[index] for index in order[ONE_BY_ONE + AT_ONCE :]]
    one_by_one = [
        await _leave(stats, [connections[index]], admitted - gone) for gone, index in enumerate(single, start=1)
    ]
    at_once = await _leave(stats, [connections[index] for index in burst], admitted - ONE_BY_ONE - AT_ONCE)
    disturbed = any(task.done() for task in rest)

    exchanges = await asyncio.gather(*rest)
    settled = await stats.wait_for(0)
    final = await stats.read()
    await asyncio.gather(*tasks)
    stats.close()
    for connection in connections:
        connection.close()
    return AbandonResult(
        admitted=admitted,
        one_by_one_ms=[round(value * 1000, 3) for value in one_by_one],
        at_once_ms=round(at_once * 1000, 3),
        disturbed=disturbed,
        rest_outcomes=_count(exchanges),
        settled_ms=round(settled * 1000, 3),
        final_stats=final,
    )


async def _admitted(stats: Statistics) -> int:
    """How many requests are live once their number has reached `REQUESTS`, or stopped short of it."""
    deadline = perf_counter() + GIVE_UP_S
    live = 0
    while live < REQUESTS and perf_counter() < deadline:
        live = int((await stats.read())["active_requests"])
    return live


async def _leave(stats: Statistics, leaving: Sequence[Connection], live: int) -> float:
    for connection in leaving:
        connection.close()
    return await stats.wait_for(live)


def _count(exchanges: Sequence[Exchange]) -> dict[str, int]:
    outcomes = [exchange.outcome for exchange in exchanges]
    return {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}
