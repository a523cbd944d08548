"""What is done to a worker while clients ask, and the disk and the front end with it. Each returns when it is done."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from functools import partial

import psutil
from asking import OK, Row, ask, chat
from world import GRAMMAR, MODEL, PROMPTS, Load, World

ENGINE = "mlx_server.workers.engine"
VICTIM_SEED = 666
"""Of a request that is to fail alone."""

LONG = "all work and no play " * 100
HUNGRY = 3
"""Prompts that take memory together until there is none."""

NOT_KEPT = "a prompt is not kept on disk"
STOPPED_S = 3.0
DEATHS = 5
"""In a row, after which a worker is given up."""

Fault = Callable[[World, Load], Awaitable[list[Row]]]
"""Does it, and returns what was asked beside the load."""


async def kill(world: World, load: Load) -> list[Row]:
    world.worker().kill()
    return []


async def stop(world: World, load: Load) -> list[Row]:
    """It is found by its silence."""
    world.worker().send_signal(signal.SIGSTOP)
    return []


async def raise_in(at: str, world: World, load: Load, *, times: int = 1, **victim: object) -> list[Row]:
    """An exception: in whoever's request it is, or in the victim's alone, which is another request of its own."""
    only = f"seed={VICTIM_SEED}" if victim.get("seed") else ""
    world.inject(at, times=times, only=only)
    if not victim:
        return []
    body = chat(MODEL, PROMPTS[0], max_tokens=24) | victim
    return [await ask(world.url, body | {"stream": stream}, None) for stream in (False, True)]


async def cut_frame(world: World, load: Load) -> list[Row]:
    world.inject("mlx_server.workers.channel:Channel.send", cut=True)
    return []


async def kill_while_loading(world: World, load: Load) -> list[Row]:
    await kill_anew(world, deaths=2)
    return []


async def crash_loop(world: World, load: Load) -> list[Row]:
    """Until it is given up; readiness has to say so, and requests of the time after that are served again."""
    await kill_anew(world, deaths=DEATHS)
    await until(lambda: "ready" not in world.state())
    return []


async def kill_anew(world: World, *, deaths: int) -> None:
    """Kill the worker, and so many in all of those that take its place, before they take work."""
    dead: set[int] = set()
    while len(dead) < deaths:
        for pid in await asyncio.to_thread(world.pids):
            if pid not in dead:
                dead.add(pid)
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).kill()
        if world.state().get("failed"):
            return
        await asyncio.sleep(0.02)


async def out_of_memory(world: World, load: Load) -> list[Row]:
    """Its address space may grow no further, and long prompts come."""
    process = world.worker()
    limit = process.memory_info().vms
    process.rlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    longs = [f"{number}: {LONG * 12}" for number in range(HUNGRY)]
    rows = await asyncio.gather(*(ask(world.url, chat(MODEL, long, max_tokens=16), None) for long in longs))
    with contextlib.suppress(psutil.NoSuchProcess):
        process.rlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return list(rows)


async def full_disk(world: World, load: Load) -> list[Row]:
    """Under the registry, the kept responses, prompts and caches, while there is something to keep and a worker
    starts."""
    filler = world.disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    world.worker().kill()
    response = {"model": MODEL, "input": "Remember this.", "max_output_tokens": 16, "stream": False, "store": True}
    rows = [await ask(world.url, response, None, "/v1/responses") for _ in range(4)]
    rows += [await ask(world.url, chat(MODEL, f"{number}: {LONG}", max_tokens=16), None) for number in range(4)]
    await load.until_ok(16)
    await until(lambda: NOT_KEPT in world.server.log.read_text())
    filler.unlink()
    rows.append(await ask(world.url, response, None, "/v1/responses"))
    assert rows[-1].outcome == OK, rows[-1]
    return rows


async def full_buffer(world: World, load: Load) -> list[Row]:
    """The front end reads nothing for a while: what its workers say fills the socket."""
    front = psutil.Process(world.server.pid)
    front.send_signal(signal.SIGSTOP)
    await asyncio.sleep(STOPPED_S)
    front.send_signal(signal.SIGCONT)
    return []


async def until(true: Callable[[], bool]) -> None:
    """Poll what blocks."""
    deadline = time.monotonic() + 60
    while not await asyncio.to_thread(true):
        if time.monotonic() > deadline:
            raise TimeoutError
        await asyncio.sleep(0.05)


@contextlib.contextmanager
def small_disk(world_disk: os.PathLike[str]) -> object:
    """A file system of its own, which can be filled; False where that takes rights that are not there."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(world_disk)], capture_output=True)
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "--lazy", str(world_disk)], check=True)


FAULTS: dict[str, Fault] = {
    "SIGKILL": kill,
    "exception in a step": partial(raise_in, f"{ENGINE}.decode.batch:BatchEngine._advance"),
    "exception in one request's sampler": partial(
        raise_in, f"{ENGINE}.sampling.batch_sampler:RowSamplers.add", times=1 << 30, seed=VICTIM_SEED
    ),
    "exception in one request's grammar": partial(
        raise_in, f"{ENGINE}.sampling.constraints:GrammarMask.__call__", times=1 << 30, **GRAMMAR
    ),
    "exception in a detokeniser": partial(raise_in, f"{ENGINE}.output.answer:Answer.add", times=3),
    "half a frame, then gone": cut_frame,
    "killed again while loading": kill_while_loading,
    "crash loop": crash_loop,
    "out of memory (RLIMIT_AS)": out_of_memory,
    "full disk": full_disk,
    "full socket buffer": full_buffer,
    "SIGSTOP": stop,
}
