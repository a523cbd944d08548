"""How long a thread has been at something, for another one that watches it."""

from __future__ import annotations

import time


class Stopwatch:
    """How long the thread that entered it has been inside; any thread may look."""

    def __init__(self) -> None:
        self.since: float | None = None
        """When the thread came in, on the monotonic clock; the same thread may set it in place of entering."""

    @property
    def seconds(self) -> float:
        """0 while nobody is inside."""
        since = self.since
        return 0.0 if since is None else time.monotonic() - since

    def __enter__(self) -> None:
        self.since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.since = None
