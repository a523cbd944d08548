"""What a worker knows of a ticket: the sequences that it has become, and how many of them may run."""

from __future__ import annotations

import asyncio
from collections.abc import Container
from dataclasses import dataclass, field

from mlx_server.schemas.internal.messages import Failed, FailureKind, Prepared
from mlx_server.workers.engine.sequence import Broken, Key, Sequence


@dataclass(slots=True)
class Job:
    """A ticket as the worker knows it: sequences once prepared, rows as granted."""

    granted: int
    preparing: asyncio.Task[list[Sequence]]
    request_id: str | None
    writes: bool = False
    announced: bool = False
    sequences: list[Sequence] | None = None
    started: int = 0
    parked: list[Sequence] = field(default_factory=list)

    def park(self) -> list[Sequence]:
        """Make way. Returns the sequences to be taken off their rows: what was read of them may be kept as a prefix."""
        if self.sequences is None:
            self.granted = 0
        self.parked = (self.sequences or [])[: self.started]
        return self.parked

    def resume(self, rows: int, live: Container[Key]) -> list[Sequence]:
        """Be granted `rows` more rows. Returns the sequences that go on there, as far as they did not end in passing;
        rows that these leave are for others."""
        left = [sequence for sequence in self.parked if sequence.key in live]
        again, self.parked = left[:rows], left[rows:]
        self.granted += rows - len(again)
        return again


def generation_failed(error: object) -> str:
    """The reference's message for an error of the engine."""
    return f"Failed to generate response: {error}"


def failure(broken: Broken) -> Failed:
    """The end of a ticket whose sequence broke: a refusal if something in the request is to blame."""
    if broken.param is not None:
        return Failed(broken.key[0], FailureKind.INVALID, broken.message, broken.param)
    return Failed(broken.key[0], FailureKind.ENGINE, generation_failed(broken.message))


def prepared(ticket: int, sequences: list[Sequence]) -> Prepared:
    """What a request for text has become; a prompt that several choices share counts once."""
    ignored = dict.fromkeys(name for sequence in sequences for name in sequence.ignored)
    own = [each for each in sequences if not each.follows]
    tokens, dropped = sum(len(each.prompt) for each in own), sum(each.dropped_messages for each in own)
    prefix_shortage = max(
        (each.prefix_shortage for each in sequences if each.prefix_shortage is not None), default=None
    )
    return Prepared(ticket, tokens, tuple(ignored), dropped, prefix_shortage)
