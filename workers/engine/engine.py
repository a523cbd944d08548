"""The interface that every engine has."""

from __future__ import annotations

from typing import Protocol

from mlx_server.workers.engine.sequence import Key, Produced, Sequence


class Engine(Protocol):
    """Steps sequences to their ends. Engine thread only."""

    @property
    def busy(self) -> bool:
        """Whether any sequence needs a step."""

    def add(self, sequence: Sequence) -> None:
        """Take in a sequence; the next steps work on it."""

    def remove(self, key: Key) -> None:
        """Drop a sequence, wherever it is; unknown keys are ignored."""

    def step(self) -> list[Produced]:
        """One step for all running sequences; the last item of each sequence ends it."""

    def close(self) -> None:
        """Release all sequences."""
