"""Clients that leave one after the other, at random moments: how soon their slots are back."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from asking import chat, head
from client_faults import ENDLESS_TOKENS, MOMENTS, connected
from lib.abandon import GIVE_UP_S, Statistics
from lib.summary import percentiles_ms
from rich.console import Console
from world import MODEL, World

ROWS = 2
AT_MOST_MS = 100.0
QUEUED = "queued"


def disappear(model: Path, scratch: Path, count: int, console: Console) -> tuple[dict[str, Any], bool]:
    """Milliseconds by moment, and whether the 95th percentile of all is below the target and all came back."""
    with World(model, scratch, "--max-concurrency", str(ROWS)) as world:
        asyncio.run(world.settle())
        before = world.standing()
        times = asyncio.run(leave_one_by_one(world, count))
        leaked = world.leaked(before)
    every = [one for moment in times.values() for one in moment]
    figures = {
        "leavers": len(every),
        "slot_back_ms": percentiles_ms(every),
        "by_moment": {name: percentiles_ms(each) | {"count": len(each)} for name, each in times.items()},
        "leaked": leaked,
    }
    console.print(figures)
    in_time = figures["slot_back_ms"]["p95"] <= AT_MOST_MS
    return figures, in_time and not leaked and max(every) < GIVE_UP_S


async def leave_one_by_one(world: World, count: int) -> dict[str, list[float]]:
    """Seconds from a client's leaving to the first statistics without it, by the moment."""
    stats = Statistics(urlsplit(world.server.url))
    names = [*MOMENTS, QUEUED]
    times: dict[str, list[float]] = {name: [] for name in names}
    choose = random.Random(count)
    for _ in range(count):
        name = choose.choice(names)
        holders = [await hold(world) for _ in range(ROWS)] if name == QUEUED else []
        writer = await (hold(world, wait=False) if name == QUEUED else MOMENTS[name](world))
        await asyncio.sleep(choose.uniform(0.0, 0.02))
        writer.transport.abort()
        times[name].append(await stats.wait_for(len(holders)))
        for one in holders:
            one.transport.abort()
        await stats.wait_for(0)
    stats.close()
    return times


async def hold(world: World, *, wait: bool = True) -> asyncio.StreamWriter:
    """A stream that takes a row, or waits for one."""
    reader, writer = await connected(world)
    writer.write(head(chat(MODEL, "Go on for ever.", stream=True, max_tokens=ENDLESS_TOKENS)))
    if wait:
        await reader.readuntil(b'"content"')
    return writer
