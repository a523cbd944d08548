"""What every handler does with its engine, whatever it makes of requests."""

from __future__ import annotations

from collections.abc import Sequence as Several

from mlx_server.schemas.internal.generation import MediaKind
from mlx_server.schemas.internal.messages import MlxMemory
from mlx_server.schemas.internal.work import Work
from mlx_server.workers.engine.cancellation import IsCancelled, never
from mlx_server.workers.engine.engine import Engine
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.engine.sequence import Key, Produced, Sequence


class SteppingHandler:
    """Passes sequences on to `_engine`, which loading sets."""

    _engine: Engine

    @property
    def accelerated(self) -> bool:
        """MLX computes on Metal, where processes that compute at once hold each other up."""
        return platform.on_metal()

    @property
    def kinds(self) -> Several[MediaKind]:
        """Text only."""
        return ()

    def open(self, request: Work, abandoned: IsCancelled = never) -> Work:
        """As it is."""
        return request

    @property
    def busy(self) -> bool:
        """Whether any sequence needs a step."""
        return self._engine.busy

    def add(self, sequence: Sequence) -> None:
        """Take a sequence in."""
        self._engine.add(sequence)

    def remove(self, key: Key) -> None:
        """Drop a sequence."""
        self._engine.remove(key)

    def step(self) -> list[Produced]:
        """One step of the engine."""
        return self._engine.step()

    def settle(self) -> None:
        """Wait for MLX."""
        platform.settle()

    def memory(self) -> MlxMemory:
        """MLX's counters."""
        return platform.memory()
