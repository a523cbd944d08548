"""What clients do wrong while others ask."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from asking import OK, Row, ask, chat, head
from worker_faults import Fault
from world import MODEL, PROMPTS, Load, World

LONG = "all work and no play makes a dull server " * 150
ENDLESS_TOKENS = 6000
LEAVERS, STALLED, SLOW, STORMERS, DROPPED = 40, 4, 30, 12, 10_000
STALLED_S, DRIP_S = 4.0, 0.15
DRIPS = 20
RETRIES = 3

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Moment = Callable[[World], Awaitable[asyncio.StreamWriter]]
"""Goes as far as a moment of a request, and returns the connection, to be closed."""


async def connected(world: World, *, receive_bytes: int | None = None) -> Connection:
    """A connection; what it may hold unread is bounded, if that is wanted."""
    place = urlsplit(world.url)
    sock = socket.socket()
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (place.hostname, place.port))
    return await asyncio.open_connection(sock=sock)


async def before_the_head(world: World) -> asyncio.StreamWriter:
    _, writer = await connected(world)
    writer.write(b"POST /v1/chat/completions HTT")
    return writer


async def within_the_body(world: World) -> asyncio.StreamWriter:
    _, writer = await connected(world)
    writer.write(head(chat(MODEL, LONG))[:-200])
    return writer


async def in_prefill(world: World) -> asyncio.StreamWriter:
    _, writer = await connected(world)
    writer.write(head(chat(MODEL, f"{random.random()} {LONG}", stream=True, max_tokens=ENDLESS_TOKENS)))
    await asyncio.sleep(random.uniform(0.0, 0.05))
    return writer


async def in_mid_stream(world: World) -> asyncio.StreamWriter:
    reader, writer = await connected(world)
    writer.write(head(chat(MODEL, random.choice(PROMPTS), stream=True, max_tokens=ENDLESS_TOKENS)))
    await reader.readuntil(b'"content"')
    await asyncio.sleep(random.uniform(0.0, 0.05))
    return writer


async def half_closed(world: World) -> asyncio.StreamWriter:
    """It says that it will say no more, and reads on, until it leaves."""
    reader, writer = await connected(world)
    writer.write(head(chat(MODEL, random.choice(PROMPTS), stream=True, max_tokens=64)))
    writer.write_eof()
    with contextlib.suppress(ConnectionError):
        await reader.read(1 << 12)
    return writer


async def waiting_for_json(world: World) -> asyncio.StreamWriter:
    _, writer = await connected(world)
    writer.write(head(chat(MODEL, random.choice(PROMPTS), max_tokens=ENDLESS_TOKENS)))
    await asyncio.sleep(random.uniform(0.0, 0.2))
    return writer


MOMENTS: dict[str, Moment] = {
    "before the head": before_the_head,
    "within the body": within_the_body,
    "in prefill": in_prefill,
    "in mid-stream": in_mid_stream,
    "half-closed": half_closed,
    "waiting for JSON": waiting_for_json,
}


async def leave_at_any_moment(world: World, load: Load) -> list[Row]:
    async def one(moment: Moment) -> None:
        (await moment(world)).transport.abort()

    for _ in range(LEAVERS // len(MOMENTS)):
        await asyncio.gather(*map(one, MOMENTS.values()))
    return []


async def stall(world: World, load: Load) -> list[Row]:
    """Readers that stop reading."""
    readers = [await connected(world, receive_bytes=4096) for _ in range(STALLED)]
    for _, writer in readers:
        writer.write(head(chat(MODEL, PROMPTS[0], stream=True, max_tokens=ENDLESS_TOKENS)))
    await asyncio.sleep(STALLED_S)
    for _, writer in readers:
        writer.transport.abort()
    return []


async def drip(world: World, load: Load) -> list[Row]:
    """Heads and bodies that come byte by byte, and never to an end."""
    whole = head(chat(MODEL, LONG))
    places = [0 if number % 2 else whole.index(b"\r\n\r\n") for number in range(SLOW)]
    writers = [(await connected(world))[1] for _ in places]
    for writer, place in zip(writers, places, strict=True):
        writer.write(whole[:place])
    for step in range(DRIPS):
        for writer, place in zip(writers, places, strict=True):
            writer.write(whole[place + step : place + step + 1])
        await asyncio.sleep(DRIP_S)
    for writer in writers:
        writer.transport.abort()
    return []


async def retry_storm(world: World, load: Load) -> list[Row]:
    """Clients that lose patience and ask again; the last time each waits, and finds its prompt read."""

    async def one(number: int) -> Row:
        body = chat(MODEL, f"{number}: {LONG}", stream=True, max_tokens=16)
        for _ in range(RETRIES):
            _, writer = await connected(world)
            writer.write(head(body))
            await asyncio.sleep(random.uniform(0.2, 0.5))
            writer.transport.abort()
        return await ask(world.url, body, None)

    rows = list(await asyncio.gather(*map(one, range(STORMERS))))
    again = [await ask(world.url, chat(MODEL, f"{number}: {LONG}", max_tokens=1), None) for number in range(STORMERS)]
    assert all(row.cached_tokens for row in again if row.outcome == OK), again
    return rows


async def drop_connections(world: World, load: Load) -> list[Row]:
    """Opened and closed, many a time."""
    for _ in range(DROPPED // 50):
        for _, writer in await asyncio.gather(*(connected(world) for _ in range(50))):
            writer.transport.abort()
    return []


CLIENT_FAULTS: dict[str, Fault] = {
    "clients leave at any moment": leave_at_any_moment,
    "stalled readers": stall,
    "slow heads and bodies": drip,
    "retry storm": retry_storm,
    f"{DROPPED} connections dropped": drop_connections,
}
