"""The clients of an overload, in a process of its own: `python storm.py ORDER.json`; prints the rows as JSON.

With `clients` each sends its next request when its last one has ended. With `rate` requests arrive as a Poisson
process, each over a connection of its own, whatever becomes of the others; who is refused comes back once, when it was
told to, if that is before `patience_s`.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.connection import connect, http_request
from load import run_in_loop


@dataclass(frozen=True, slots=True)
class Order:
    """What to send to the chat endpoint below `url` for `seconds`. Exactly one of `clients` and `rate` is set. Prompts
    of another `seed` are others, of which nothing is known."""

    url: str
    body: Mapping[str, Any]
    seconds: float
    clients: int | None = None
    rate: float | None = None
    patience_s: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: seconds from the storm's start to when it was due, and from then to its end. It was sent so
    `late_s`, as the clients themselves had too little of the processor.

    `back`: it was refused before, and comes when it was told to.
    """

    due_s: float
    late_s: float
    took_s: float
    outcome: str
    tokens: int
    retry_after: str | None
    back: bool


class Storm:
    """Sends what is ordered; `asks` are the requests that have ended."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._url = urlsplit(order.url)
        self._numbers = count(1_000_000 * (1 + order.seed))
        self.asks: list[Ask] = []
        self._zero = perf_counter()

    async def run(self) -> list[Ask]:
        """Until the last one has ended."""
        order = self._order
        async with asyncio.TaskGroup() as group:
            if order.clients is not None:
                for _ in range(order.clients):
                    group.create_task(self._client())
                return self.asks
            assert order.rate is not None
            choose, due_s = random.Random(order.seed), 0.0
            while (due_s := due_s + choose.expovariate(order.rate)) < order.seconds:
                await asyncio.sleep(self._zero + due_s - perf_counter())
                group.create_task(self._obedient(due_s))
        return self.asks

    async def _client(self) -> None:
        while (now := perf_counter() - self._zero) < self._order.seconds:
            await self._ask(now, next(self._numbers), back=False)

    async def _obedient(self, due_s: float) -> None:
        number = next(self._numbers)
        first = await self._ask(due_s, number, back=False)
        if first.retry_after is None:
            return
        back_s = perf_counter() - self._zero + int(first.retry_after)
        if back_s < self._order.patience_s:
            await asyncio.sleep(int(first.retry_after))
            await self._ask(back_s, number, back=True)

    async def _ask(self, due_s: float, number: int, *, back: bool) -> Ask:
        message = {"role": "user", "content": self._order.body["prompt"].replace("NUMBER", str(number))}
        body = {"user": str(number), "messages": [message], "stream": True, "stream_options": {"include_usage": True}}
        body |= {name: value for name, value in self._order.body.items() if name != "prompt"}
        late_s = perf_counter() - self._zero - due_s
        outcome, tokens, retry_after = "unreachable", 0, None
        try:
            connection = await connect(self._url)
        except OSError:
            pass
        else:
            exchange = await connection.exchange(http_request("POST", self._url, "/v1/chat/completions", body))
            connection.close()
            outcome, tokens = exchange.outcome, exchange.tally.usage_tokens() or 0
            retry_after = exchange.retry_after
        ask = Ask(due_s, late_s, perf_counter() - self._zero - due_s, outcome, tokens, retry_after, back)
        self.asks.append(ask)
        return ask


def main() -> None:
    order = Order(**json.loads(Path(sys.argv[1]).read_text()))
    json.dump([asdict(ask) for ask in run_in_loop(Storm(order).run)], sys.stdout)


if __name__ == "__main__":
    main()
