"""Which models have been idle for too long. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class IdleModel:
    """A loaded model: since when it has had nothing to do, and after how long it goes (0: never); in seconds."""

    name: str
    since: float
    timeout_s: float


def timeout_s(own_s: float | None, server_s: float, *, on_demand: bool, pinned: bool) -> float:
    """After how long a model goes: what it says itself, else the server's if it was loaded on demand; 0 is never."""
    if own_s is not None:
        return own_s
    return server_s if on_demand and not pinned else 0.0


def overdue(models: Iterable[IdleModel], now: float) -> Iterator[str]:
    """The names of those that have to go."""
    for one in models:
        if one.timeout_s and now - one.since >= one.timeout_s:
            yield one.name
