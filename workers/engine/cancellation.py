"""Long work asks now and then whether anybody still waits for it."""

from __future__ import annotations

from collections.abc import Callable

IsCancelled = Callable[[], bool]
"""Whether nobody waits for the work any more. Asked on the thread that works."""


def never() -> bool:
    """Somebody waits to the end."""
    return False
