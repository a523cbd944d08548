"""Continuous batching over mlx-lm's BatchGenerator: sequences join and leave between steps, and survive a bad one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from mlx_lm.generate import BatchGenerator

from mlx_server.workers.engine.sampling import Processors, make_processors, make_sampler
from mlx_server.workers.sequence import Broken, Key, Produced, Sequence, Token

log = logging.getLogger(__name__)

GeneratorFactory = Callable[..., Any]

DOUBTS = 2
"""Failed steps in a row that make a sequence a suspect: it runs alone until it yields a token, or breaks."""


class BatchEngine:
    """Steps up to `rows` sequences together. Engine thread only.

    A step that raises leaves the generator half-stepped and its other rows silently wrong, so it is discarded and
    every sequence is inserted anew, as its prompt and the tokens it has emitted. One that fails again and again is
    found by running the suspects alone, and breaks without the others.
    """

    def __init__(
        self,
        model: Any,
        stop_tokens: set[int],
        *,
        rows: int,
        joint_prefill: bool,
        prefill_step_size: int,
        make_generator: GeneratorFactory = BatchGenerator,
    ) -> None:
        self._make_generator: Callable[[], Any] = lambda: make_generator(
            model,
            stop_tokens=[[token] for token in sorted(stop_tokens)],
            completion_batch_size=rows,
            prefill_batch_size=rows if joint_prefill else 1,
            prefill_step_size=prefill_step_size,
        )
        self._generator = self._make_generator()
        self._waiting: dict[Key, Sequence] = {}
        self._running: dict[Key, Sequence] = {}
        self._uids: dict[Key, int] = {}
        self._keys: dict[int, Key] = {}
        self._processors: dict[Key, Processors] = {}
        self._doubts: dict[Key, int] = {}

    @property
    def busy(self) -> bool:
        """Some sequence wants a step."""
        return bool(self._waiting or self._running)

    def add(self, sequence: Sequence) -> None:
        """Take a sequence in; it joins the batch with the next step."""
        self._waiting[sequence.key] = sequence

    def remove(self, key: Key) -> None:
        """Drop a sequence, wherever it is; unknown keys are ignored."""
        self._waiting.pop(key, None)
        self._doubts.pop(key, None)
        if key in self._running:
            self._generator.remove([self._uids[key]])
            self._forget(key)

    def step(self) -> list[Produced]:
        """One decode step for all rows, and one chunk of prefill."""
        try:
            for sequence in self._admissible():
                self._insert(sequence)
            _, responses = self._generator.next()
        except Exception as error:  # noqa: BLE001 - whatever a step raises, the other sequences go on
            return self._start_over(error)
        failed = {key: p.error for key, p in self._processors.items() if p.error is not None}
        produced: list[Produced] = []
        for response in responses:
            key = self._keys.get(response.uid)
            if key is None or (key in failed and response.finish_reason is None):
                continue
            self._running[key].emitted.append(response.token)
            self._doubts.pop(key, None)
            if response.finish_reason is not None:
                self._forget(key)
            produced.append(Token(key, response.token, response.finish_reason))
        if produced and self._suspects():
            self._make_room()
        return produced + self._broken(failed)

    def close(self) -> None:
        """Release the generator and all sequences."""
        self._generator.close()
        self._waiting.clear()
        for key in list(self._running):
            self._forget(key)

    def _insert(self, sequence: Sequence) -> None:
        key = sequence.key
        self._running[key] = self._waiting.pop(key)
        processors = make_processors(sequence)
        [uid] = self._generator.insert(
            [sequence.context],
            max_tokens=[sequence.remaining],
            samplers=[make_sampler(sequence)],
            logits_processors=[[processors] if processors else []],
        )
        self._uids[key] = uid
        self._keys[uid] = key
        if processors:
            self._processors[key] = processors

    def _forget(self, key: Key) -> None:
        del self._running[key]
        self._keys.pop(self._uids.pop(key, -1), None)
        self._processors.pop(key, None)

    def _suspects(self) -> list[Sequence]:
        return [s for key, s in self._waiting.items() if self._doubts.get(key, 0) >= DOUBTS]

    def _admissible(self) -> list[Sequence]:
        """Who may join now: everybody, unless somebody is under suspicion and has to be alone."""
        if not self._doubts:
            return list(self._waiting.values())
        suspects = self._suspects()
        watched = any(self._doubts.get(key, 0) >= DOUBTS for key in self._running)
        if watched or (suspects and self._running):
            return []
        return suspects[:1] or list(self._waiting.values())

    def _make_room(self) -> None:
        """Take back what runs, for the next suspect to be alone."""
        for key, sequence in list(self._running.items()):
            self._generator.remove([self._uids[key]])
            self._forget(key)
            self._waiting[key] = sequence

    def _start_over(self, error: Exception) -> list[Produced]:
        log.error("a step failed, %d sequences start over", len(self._running), exc_info=error)
        self._generator.close()
        self._generator = self._make_generator()
        again: dict[Key, Sequence] = {}
        broken: list[Produced] = []
        for key, sequence in list(self._running.items()):
            self._forget(key)
            self._doubts[key] = self._doubts.get(key, 0) + 1
            if self._doubts[key] > DOUBTS:
                del self._doubts[key]
                broken.append(Broken(key, f"{type(error).__name__}: {error}"))
            else:
                again[key] = sequence
        self._waiting = again | self._waiting
        return broken

    def _broken(self, failed: dict[Key, Exception]) -> list[Produced]:
        """Take out the rows whose processors failed, if they have not come to their end."""
        broken: list[Produced] = []
        for key, error in failed.items():
            if key in self._running:
                self.remove(key)
                broken.append(Broken(key, f"{type(error).__name__}: {error}"))
        return broken
