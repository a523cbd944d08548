"""What the clients' scripts share: the questions they ask, and `run`, which a script ends with."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Sequence

QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris."
WEATHER = "What is the weather in Paris?"
MODEL = "any-name-will-do"
KEY = "not-needed"


def run(*checks: Callable[[str], None]) -> None:
    """Call each check with the base URL that the script was given, and print the names of all as JSON."""
    for check in checks:
        check(sys.argv[1])
    tell(checks)


def run_async(*checks: Callable[[str], Coroutine[object, object, None]]) -> None:
    """The same, of coroutines, in one event loop."""

    async def run_all() -> None:
        for check in checks:
            await check(sys.argv[1])

    asyncio.run(run_all())
    tell(checks)


def tell(checks: Sequence[Callable[..., object]]) -> None:
    """Print the names of all as JSON."""
    print(json.dumps([check.__name__.replace("_", " ") for check in checks]))


def root(url: str) -> str:
    """The server's address, without the `/v1` that OpenAI's clients want."""
    return url.removesuffix("/v1")
