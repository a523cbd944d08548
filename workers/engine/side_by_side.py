"""One model, several engines: one writes, and specialists take the sequences that are not written."""

from __future__ import annotations

from typing import Protocol

from mlx_server.workers.engine.engine import Engine
from mlx_server.workers.engine.sequence import Key, Produced, Sequence


class Specialist(Engine, Protocol):
    """An engine for some sequences."""

    def takes(self, sequence: Sequence) -> bool:
        """Whether a sequence is its work."""


class SideBySide:
    """Each step is one of every engine that has work. Engine thread only."""

    def __init__(self, writing: Engine, *specialists: Specialist) -> None:
        self._writing = writing
        self._specialists = specialists
        self._engines: tuple[Engine, ...] = (*specialists, writing)
        self._active: list[Engine] = []

    @property
    def busy(self) -> bool:
        """Whether any sequence needs a step."""
        return bool(self._active)

    def add(self, sequence: Sequence) -> None:
        """Take in a sequence."""
        engine = next((one for one in self._specialists if one.takes(sequence)), self._writing)
        engine.add(sequence)
        self._look()

    def remove(self, key: Key) -> None:
        """Drop a sequence, wherever it is; unknown keys are ignored."""
        for engine in self._engines:
            engine.remove(key)
        self._look()

    def step(self) -> list[Produced]:
        """One step of each engine that is busy."""
        if self._active == [self._writing]:
            produced = self._writing.step()
            if not self._writing.busy:
                self._active = []
            return produced
        produced = [item for engine in self._active for item in engine.step()]
        self._look()
        return produced

    def close(self) -> None:
        """Release all sequences."""
        for engine in self._engines:
            engine.close()
        self._active = []

    def _look(self) -> None:
        """Find out which engines have work: a specialist may have passed some on."""
        self._active = [engine for engine in self._engines if engine.busy]
