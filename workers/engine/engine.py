"""What every engine does, whatever it does it with."""

from __future__ import annotations

from typing import Protocol

from mlx_server.workers.engine.sequence import Key, Produced, Sequence


class Engine(Protocol):
    """Steps sequences to their ends. Engine thread only."""

    @property
    def busy(self) -> bool:
        """Some sequence wants a step."""

    def add(self, sequence: Sequence) -> None:
        """Take a sequence in; the next steps work on it."""

    def remove(self, key: Key) -> None:
        """Drop a sequence, wherever it is; unknown keys are ignored."""

    def step(self) -> list[Produced]:
        """One step for what runs; each sequence produces one end, which is its last."""

    def close(self) -> None:
        """Release all sequences."""
