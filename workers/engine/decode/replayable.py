"""What batching engines share: sequences join and leave between steps, and survive a failed one."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection

from mlx_server.workers.engine.decode.admission import CHECK_EVERY, Admission
from mlx_server.workers.engine.sampling.sampling import Processors
from mlx_server.workers.engine.sequence import Broken, Key, Produced, Sequence, Token
from mlx_server.workers.log_lines import about

log = logging.getLogger(__name__)

DOUBTS = 2
"""Failed steps in a row that make a sequence a suspect: it runs alone until it yields a token or breaks."""


class ReplayingEngine(ABC):
    """Holds the waiting and the running sequences. Engine thread only.

    A step that raises leaves the batch half-stepped and its other rows silently wrong, so the batch is discarded and
    every sequence is inserted anew, as its prompt and the tokens it has emitted. A sequence that fails again and again
    is found by running suspects alone, and breaks without the others.
    """

    def __init__(self, admission: Admission | None = None) -> None:
        """`admission` bounds the memory of running sequences."""
        self._admission = admission or Admission()
        self._steps = 0
        self._waiting: dict[Key, Sequence] = {}
        self._running: dict[Key, Sequence] = {}
        self._processors: dict[Key, Processors] = {}
        self._doubts: dict[Key, int] = {}
        self._leaving: list[Key] = []
        """Running sequences that were removed: they leave together, with the next step or once nothing else runs, since
        each by itself would have the others' rows copied."""

    @abstractmethod
    def _insert(self, sequence: Sequence) -> None:
        """Move a sequence from waiting to running, if it may run now."""

    @abstractmethod
    def _advance(self) -> list[Token | Broken]:
        """One decode step for all rows, and one prefill chunk. May raise anything."""

    @abstractmethod
    def _take_out(self, keys: Collection[Key]) -> None:
        """Remove rows from the batch, if they are in it."""

    @abstractmethod
    def _discard(self) -> None:
        """Abandon the batch and start an empty one."""

    @property
    def busy(self) -> bool:
        """Whether any sequence needs a step."""
        return bool(self._waiting or self._running)

    @property
    def _nobody_waits(self) -> bool:
        """Whether all that runs makes way for others: then prompts are read first, as a step for more rows is the
        cheaper one."""
        return all(one.yields for one in self._running.values())

    def add(self, sequence: Sequence) -> None:
        """Take in a sequence; it joins the batch with the next step."""
        self._waiting[sequence.key] = sequence

    def remove(self, key: Key) -> None:
        """Drop a sequence, wherever it is; unknown keys are ignored."""
        self._waiting.pop(key, None)
        self._doubts.pop(key, None)
        if key in self._running and key not in self._leaving:
            self._leaving.append(key)
            if len(self._leaving) == len(self._running):
                self._leave_together()

    def step(self) -> list[Produced]:
        """One decode step for all rows, and one prefill chunk."""
        try:
            self._leave_together()
            if refused := self._refused():
                return refused
            for sequence in self._admissible():
                self._insert(sequence)
            self._shrink()
            with self._admission.bound.step():
                advanced = self._advance()
        except Exception as error:  # noqa: BLE001 - whatever a step raises, the other sequences go on
            return self._start_over(error)
        failed = {key: p.error for key, p in self._processors.items() if p.error is not None}
        produced = [item for item in advanced if not (item.key in failed and is_passing(item))]
        for item in produced:
            if isinstance(item, Token):
                self._running[item.key].emitted.append(item.token)
            self._doubts.pop(item.key, None)
        self._leave([item.key for item in produced if not is_passing(item)])
        if produced and self._suspects():
            self._make_room()
        return [*produced, *self._broken(failed)]

    def close(self) -> None:
        """Release all sequences."""
        self._waiting.clear()
        self._leaving.clear()
        for key in list(self._running):
            self._forget(key)

    def _leave(self, keys: Collection[Key]) -> None:
        """Remove running sequences from the batch, and forget them here."""
        if keys:
            self._take_out(keys)
            for key in keys:
                self._forget(key)

    def _leave_together(self) -> None:
        self._leave(self._leaving)
        self._leaving = []

    def _forget(self, key: Key) -> None:
        prefix = self._running.pop(key).prefix
        if prefix is not None:
            prefix.left(key)
        self._processors.pop(key, None)

    def _suspects(self) -> list[Sequence]:
        return [s for key, s in self._waiting.items() if self._doubts.get(key, 0) >= DOUBTS]

    def _admissible(self) -> list[Sequence]:
        """The sequences that may join now, first come, first served: smaller ones don't overtake one that does not fit
        yet."""
        candidates = self._unsuspected()
        chosen: list[Sequence] = []
        for sequence in candidates:
            if not self._admission.admits(sequence, [*self._running.values(), *chosen]):
                break
            chosen.append(sequence)
        return chosen

    def _refused(self) -> list[Produced]:
        """The next sequence, if it could not even run alone."""
        if self._running or not (candidates := self._unsuspected()):
            return []
        refusal = self._admission.refusal(candidates[0])
        if refusal is None:
            return []
        self.remove(refusal.key)
        return [refusal]

    def _shrink(self) -> None:
        """Have the latest sequence wait again, if the running ones have outgrown their memory; what it has read may be
        cached."""
        self._steps += 1
        if self._steps % CHECK_EVERY or not self._running:
            return
        if self._admission.outgrown(self._running.values()) and len(self._running) > 1:
            key, sequence = list(self._running.items())[-1]
            self._leave([key])
            self._waiting = {key: sequence} | self._waiting

    def _unsuspected(self) -> list[Sequence]:
        """All waiting sequences, unless a suspect has to run alone."""
        if not self._doubts:
            return list(self._waiting.values())
        suspects = self._suspects()
        watched = any(self._doubts.get(key, 0) >= DOUBTS for key in self._running)
        if watched or (suspects and self._running):
            return []
        return suspects[:1] or list(self._waiting.values())

    def _make_room(self) -> None:
        """Have all running sequences wait again, so that the next suspect is alone."""
        running = dict(self._running)
        self._leave(list(running))
        self._waiting |= running

    def _start_over(self, error: Exception) -> list[Produced]:
        running = len(self._running)
        log.error("a step failed, %d sequences start over", running, exc_info=error, extra=about(self._running))
        self._discard()
        for key in self._leaving:
            self._forget(key)
        self._leaving = []
        again: dict[Key, Sequence] = {}
        broken: list[Produced] = []
        for key, sequence in list(self._running.items()):
            self._forget(key)
            self._doubts[key] = self._doubts.get(key, 0) + 1
            # What was alone would have no more memory the next time.
            if self._doubts[key] > DOUBTS or (running == 1 and isinstance(error, MemoryError)):
                del self._doubts[key]
                broken.append(Broken(key, describe(error)))
            else:
                again[key] = sequence
        self._waiting = again | self._waiting
        return broken

    def _broken(self, failed: dict[Key, Exception]) -> list[Produced]:
        """Remove the rows whose processors failed, unless they have ended."""
        left = [key for key in failed if key in self._running]
        self._leave(left)
        for key in left:
            self._doubts.pop(key, None)
        return [Broken(key, describe(failed[key])) for key in left]


def is_passing(item: Token | Broken) -> bool:
    """Whether more comes after this item."""
    return isinstance(item, Token) and item.finish is None


def describe(error: Exception) -> str:
    """What a client is told of the error that broke its sequence."""
    return f"{type(error).__name__}: {error}"
