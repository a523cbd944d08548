"""Fleets of scripted models, with real worker processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil

from mlx_server.app.config.settings import ModelSettings, Settings
from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.queue.ticket import Ticket
from mlx_server.schemas.internal.generation import GenerationRequest, TextPrompt
from mlx_server.schemas.internal.messages import Event

LONG_S = 60.0


def scripted(name: str, path: str = "scripted", **more: Any) -> ModelSettings:
    """A model that does what requests tell it."""
    return ModelSettings(path, "scripted", name, **more)


def settings_of(*models: ModelSettings, **more: Any) -> Settings:
    """A server with these models, which logs nothing but errors and keeps no standby."""
    return Settings(models=models, log_level="error", **{"standby": False, **more})


@asynccontextmanager
async def started(fleet: Fleet, longest_s: float = LONG_S) -> AsyncIterator[Fleet]:
    """The fleet with the models of its start loaded; no process is left."""
    fleet.start()
    try:
        async with asyncio.timeout(longest_s):
            await until(lambda: fleet.ready)
            yield fleet
    finally:
        await fleet.stop()
    assert not [pid for one in fleet.deployments for pid in one.pids]


async def until(true: Callable[[], Any]) -> None:
    """Wait for what nothing tells of."""
    while not true():  # noqa: ASYNC110 - nothing tells of all that is waited for
        await asyncio.sleep(0.01)


def worker_pids() -> set[int]:
    """The workers that this process has started, whoever they are of."""
    return {child.pid for child in psutil.Process().children() if "mlx_server.workers" in child.cmdline()}


def submit(deployment: Deployment, prompt: str = "hi") -> Ticket:
    """A request in a deployment's queue, past HTTP."""
    return deployment.queue.submit(GenerationRequest((TextPrompt(prompt),), 1 << 30), whole=True)


async def end_of(ticket: Ticket) -> Event:
    """A ticket's last event."""
    last: Event | None = None
    while events := await ticket.mailbox.get():
        last = events[-1]
    assert last is not None
    return last
