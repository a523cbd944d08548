"""Worker kills at random moments under clients: what hangs, what is wrong, and how soon it serves again."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import Any

from asking import DISHONEST, ERROR, HUNG, OK, WRONG
from lib.summary import percentiles_ms
from rich.console import Console
from world import CLIENTS, MODEL, NEIGHBOUR, Load, World

EARLIEST_S, LATEST_S = 0.3, 2.0
"""After it serves again the next kill comes somewhere between these, the later one plus three times the time that the
last recovery took: a busy machine must not make a row of deaths of it."""


async def kill_at_random(world: World, kills: int, console: Console) -> tuple[dict[str, Any], bool]:
    """Figures, and whether nothing was hung, wrong or dishonest, the neighbour noticed nothing, and nothing leaked."""
    choose, again_s = random.Random(kills), list[float]()
    await world.settle()
    before = await asyncio.to_thread(world.standing)
    replayed = replays(world)
    async with Load(world, kills) as load:
        await load.until_ok(CLIENTS)
        for number in range(kills):
            await asyncio.sleep(choose.uniform(EARLIEST_S, LATEST_S + 3 * (again_s[-1] if again_s else 0.0)))
            worker = await asyncio.to_thread(world.worker)
            began = time.perf_counter()
            worker.kill()
            await world.answers()
            again_s.append(time.perf_counter() - began)
            if number % 10 == 9:
                console.print(f"{number + 1} kills: {dict(load.outcomes())}", highlight=False)
    outcomes, neighbour = load.outcomes(), load.outcomes(NEIGHBOUR)
    figures = {
        "kills": kills,
        "outcomes": dict(outcomes),
        "neighbour": dict(neighbour),
        "errors": dict(Counter(f"{row.status} {row.detail}" for row in load.rows if row.outcome == ERROR)),
        "again_ms": percentiles_ms(again_s),
        "again_s": [round(one, 3) for one in again_s],
        "replayed": replays(world) - replayed,
        "leaked": await asyncio.to_thread(world.leaked, before),
    }
    console.print({name: value for name, value in figures.items() if name != "again_s"})
    bad = sum(outcomes[kind] for kind in (WRONG, DISHONEST, HUNG))
    return figures, not bad and set(neighbour) <= {OK} and not figures["leaked"]


def replays(world: World) -> int:
    """How many requests of the model were replayed so far."""
    return int(world.get("/v1/queue/stats")["models"][MODEL]["replayed"])
