"""What engines share that run one sequence after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mlx_server.workers.engine.sequence import Broken, Key, Produced, Sequence, Token


class Run(Protocol):
    """A sequence in progress."""

    sequence: Sequence

    def advance(self, chunk: int) -> list[Token]:
        """One step and its tokens: none during prefill, which reads at most `chunk` tokens."""

    def leave(self) -> None:
        """End here: nothing more is produced."""


class OneAtATimeEngine:
    """Runs the first sequence in line to its end, with the interface of the batch engine. Engine thread only."""

    def __init__(self, start: Callable[[Sequence], Run], *, prefill_step_size: int) -> None:
        self._start = start
        self._prefill_step_size = prefill_step_size
        self._waiting: dict[Key, Sequence] = {}
        self._run: Run | None = None

    @property
    def busy(self) -> bool:
        """Whether any sequence needs a step."""
        return bool(self._waiting or self._run)

    def add(self, sequence: Sequence) -> None:
        """Put a sequence at the end of the line."""
        self._waiting[sequence.key] = sequence

    def remove(self, key: Key) -> None:
        """Drop a sequence, wherever it is; unknown keys are ignored."""
        self._waiting.pop(key, None)
        if self._run is not None and self._run.sequence.key == key:
            self._end()

    def step(self) -> list[Produced]:
        """One step of the running sequence."""
        sequence = self._run.sequence if self._run else self._waiting.pop(next(iter(self._waiting)))
        try:
            self._run = run = self._run or self._start(sequence)
            produced = run.advance(self._prefill_step_size)
        except Exception as error:  # noqa: BLE001 - whatever a step raises ends this sequence only
            self._run = None
            return [Broken(sequence.key, f"{type(error).__name__}: {error}")]
        if produced and produced[-1].finish is not None:
            self._end()
        return list(produced)

    def _end(self) -> None:
        """End the running sequence."""
        run, self._run = self._run, None
        if run is not None:
            run.leave()

    def close(self) -> None:
        """Release all sequences."""
        self._waiting.clear()
        self._run = None
