"""OpenAI's own Python clients, which never try again by themselves."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
from support.running.servers import Server

CONFIGURED: dict[str, Any] = {"api_key": "not-needed", "max_retries": 0}


@contextlib.contextmanager
def sdk(server: Server, **more: Any) -> Iterator[openai.OpenAI]:
    """A client of a server."""
    with openai.OpenAI(base_url=server.url, **{**CONFIGURED, **more}) as client:
        yield client


@contextlib.asynccontextmanager
async def async_sdk(server: Server, **more: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    """The asynchronous one."""
    async with openai.AsyncOpenAI(base_url=server.url, **{**CONFIGURED, **more}) as client:
        yield client
