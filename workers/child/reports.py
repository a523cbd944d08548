"""Tells now and then how far prompts have been read, for those who watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from mlx_server.schemas.internal.messages import Progress
from mlx_server.workers.engine.sequence import Sequence

EVERY_S = 0.5


class Reports:
    """Looks at the prompts every half second while there are any. Event loop's thread only: the engine's thread writes
    what is looked at, a number for each prompt."""

    def __init__(self, tell: Callable[[list[Progress]], None]) -> None:
        self._tell = tell
        self._prompts: dict[int, list[Sequence]] = {}
        self._told: dict[int, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, ticket: int, sequences: Iterable[Sequence]) -> None:
        """Report on a request until its first token; its prompts are read from now on."""
        self._prompts[ticket] = [sequence for sequence in sequences if not sequence.follows]
        self._wait()

    def remove(self, ticket: int) -> None:
        """Nobody wants to know any more; unknown tickets are ignored."""
        self._prompts.pop(ticket, None)
        self._told.pop(ticket, None)

    def _wait(self) -> None:
        if self._prompts and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._look)

    def _look(self) -> None:
        self._timer = None
        news = []
        for ticket, sequences in list(self._prompts.items()):
            if any(sequence.emitted for sequence in sequences):
                self.remove(ticket)
            elif (tokens := tokens_read(sequences)) != self._told.get(ticket, 0):
                self._told[ticket] = tokens
                news.append(Progress(ticket, tokens))
        if news:
            self._tell(news)
        self._wait()


def tokens_read(sequences: Iterable[Sequence]) -> int:
    """Of their prompts."""
    return sum(min(sequence.read, len(sequence.prompt)) for sequence in sequences)
