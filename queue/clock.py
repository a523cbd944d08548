"""What the queue needs to know of time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Handle(Protocol):
    """A timer that can be taken back."""

    def cancel(self) -> None:
        """The callback will not be called."""


class Clock(Protocol):
    """The part of an event loop that the queue needs; a fake one moves the time in tests."""

    def time(self) -> float:
        """Monotonic seconds."""

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> Handle:
        """Call back at that time."""
