"""How long a thread has been at something, for another one that watches it."""

from __future__ import annotations

import time


class Stopwatch:
    """How long the thread that entered it has been inside; any thread may look."""

    def __init__(self) -> None:
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """0 while nobody is inside."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._since = None
