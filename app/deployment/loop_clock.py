"""The clock of queues: the running event loop's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mlx_server.queue.clock import Handle


class LoopClock:
    """The clock of the event loop that runs when it is asked: deployments may be made before there is one."""

    def time(self) -> float:
        """Monotonic seconds."""
        return asyncio.get_running_loop().time()

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> Handle:
        """Call back at that time."""
        return asyncio.get_running_loop().call_at(when, callback, *args)
