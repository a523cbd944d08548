"""The clock of queues: the running event loop's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mlx_server.queue.clock import Handle


class LoopClock:
    """The running event loop's clock."""

    def time(self) -> float:
        """Monotonic seconds."""
        return asyncio.get_running_loop().time()

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> Handle:
        """Call back at that time."""
        return asyncio.get_running_loop().call_at(when, callback, *args)
