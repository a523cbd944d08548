"""Who submits requests: one API key as all queues see it, with what it may use and what it has used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from mlx_server.queue.errors import LimitReached

MINUTE_S = 60.0


class Priority(IntEnum):
    """Which requests get free rows first. Idle ones get those that nobody else wants, and give them back at once."""

    HIGH = 0
    NORMAL = 1
    LOW = 2
    IDLE = 3


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What one key may use; None: as much as there is. `rows` are held at a time, of each model."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    rows: int | None = None


UNLIMITED = KeyLimits()


class MinuteMeter:
    """How much of a minute's worth is used. It flows back evenly, and what is known only afterwards may exceed it."""

    def __init__(self) -> None:
        self._used = 0.0
        self._at = 0.0

    def wait_s(self, now: float, per_minute: int) -> float:
        """Seconds until one more fits; 0 where it does now."""
        return max(0.0, (self._flowed(now, per_minute) + 1 - per_minute) * MINUTE_S / per_minute)

    def add(self, now: float, per_minute: int, amount: int) -> None:
        """So much more is used."""
        self._used = self._flowed(now, per_minute) + amount
        self._at = now

    def _flowed(self, now: float, per_minute: int) -> float:
        return max(0.0, self._used - (now - self._at) * per_minute / MINUTE_S)


class Account:
    """One key, which `owner` stands for. `configured`: the server's operator knows it, so there are only so many."""

    def __init__(self, owner: str = "", limits: KeyLimits = UNLIMITED, *, configured: bool = False) -> None:
        self.owner = owner
        self.limits = limits
        self.configured = configured
        self._requests, self._tokens = MinuteMeter(), MinuteMeter()

    def admit(self, now: float) -> None:
        """Count a request. Raises LimitReached, and counts nothing, where a limit is reached."""
        limits = (
            ("requests", self._requests, self.limits.requests_per_minute),
            ("tokens", self._tokens, self.limits.tokens_per_minute),
        )
        for what, meter, per_minute in limits:
            if per_minute is not None and (wait_s := meter.wait_s(now, per_minute)):
                raise LimitReached(what, per_minute, math.ceil(wait_s))
        if self.limits.requests_per_minute is not None:
            self._requests.add(now, self.limits.requests_per_minute, 1)

    def charge(self, now: float, tokens: int) -> None:
        """A request has ended that read and wrote so many tokens."""
        if self.limits.tokens_per_minute is not None:
            self._tokens.add(now, self.limits.tokens_per_minute, tokens)


ANYBODY = Account()
"""Whose requests come without a key."""
