"""What every handler of a real model says, whatever it makes of requests."""

from __future__ import annotations

from collections.abc import Sequence as Several

import mlx.core as mx

from mlx_server.schemas.internal.generation import Media, MediaKind
from mlx_server.schemas.internal.messages import MlxMemory
from mlx_server.schemas.internal.work import Work
from mlx_server.workers.engine.cancellation import IsCancelled, never
from mlx_server.workers.engine.engine import Engine
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.engine.runtime.memory_bound import MemoryBound
from mlx_server.workers.engine.sequence import Key, Sequence


class ModelHandler:
    """Loading sets `engine`."""

    engine: Engine

    def __init__(self) -> None:
        self._bound = MemoryBound()

    def bind(self, limit_bytes: int | None) -> None:
        """Let go of what is too much now."""
        self._bound.limit_bytes = limit_bytes
        self._bound.make_room()

    @property
    def accelerated(self) -> bool:
        """MLX computes on Metal, where processes that compute at once hold each other up."""
        return platform.on_metal()

    @property
    def kinds(self) -> Several[MediaKind]:
        """Text only."""
        return ()

    def decode(self, media: Several[Media], abandoned: IsCancelled = never) -> Several[Media]:
        """As they are, for models that take none: they will be refused."""
        return media

    def open(self, request: Work, abandoned: IsCancelled = never) -> Work:
        """As it is."""
        return request

    def canary(self, key: Key) -> Sequence | None:
        """None: only models that write are asked."""
        return None

    def close(self) -> None:
        """Forget all requests; the memory goes with the process."""
        self.engine.close()
        mx.synchronize()

    def rest(self) -> None:
        """Give freed memory back; what MLX keeps for reuse is for the next request."""
        platform.trim()

    def settle(self) -> None:
        """Wait for MLX."""
        platform.settle()

    def memory(self) -> MlxMemory:
        """MLX's counters."""
        return platform.memory()
