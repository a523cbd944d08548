"""Continuous batching over mlx-lm's BatchGenerator: sequences join and leave between steps, and survive a bad one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx_lm.generate import BatchGenerator, StopSequences

from mlx_server.workers.engine.logprobs import Report, report
from mlx_server.workers.engine.prefix import joins_prefix
from mlx_server.workers.engine.sampling import Processors, end_tokens, make_processors, make_sampler
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
            completion_batch_size=rows,
            prefill_batch_size=rows if joint_prefill else 1,
            prefill_step_size=prefill_step_size,
        )
        self._generator = self._make_generator()
        self._stop_tokens = stop_tokens
        self._usual_stops = StopSequences([[token] for token in sorted(stop_tokens)])
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
            prefills, responses = self._generator.next()
            self._fork(prefills)
        except Exception as error:  # noqa: BLE001 - whatever a step raises, the other sequences go on
            return self._start_over(error)
        failed = {key: p.error for key, p in self._processors.items() if p.error is not None}
        responses = [r for r in responses if r.uid in self._keys]
        reports = self._report(responses)
        produced: list[Produced] = []
        for response in responses:
            key = self._keys[response.uid]
            if key in failed and response.finish_reason is None:
                continue
            self._running[key].emitted.append(response.token)
            self._doubts.pop(key, None)
            if response.finish_reason is not None:
                self._forget(key)
            logprob, top = reports.get(response.uid, (None, ()))
            produced.append(Token(key, response.token, response.finish_reason, logprob, top))
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
        key, prefix = sequence.key, sequence.prefix
        tokens, start = sequence.context, {}
        if prefix is not None and joins_prefix(sequence):
            if prefix.cache is not None:
                start = {"caches": [prefix.take()], "all_tokens": [tokens[:-1]]}
                tokens = tokens[-1:]
            elif prefix.leader not in (None, key):
                return
            else:
                prefix.leader = key
            prefix.missing -= 1
            if not prefix.missing:
                prefix.cache = None
        self._running[key] = self._waiting.pop(key)
        processors = make_processors(sequence, self._stop_tokens)
        [uid] = self._generator.insert(
            [tokens],
            max_tokens=[sequence.remaining],
            samplers=[make_sampler(sequence)],
            logits_processors=[[processors] if processors else []],
            stop_sequences=[self._stops(sequence)],
            **start,
        )
        self._uids[key] = uid
        self._keys[uid] = key
        if processors:
            self._processors[key] = processors

    def _stops(self, sequence: Sequence) -> StopSequences:
        ends = end_tokens(sequence, self._stop_tokens)
        return self._usual_stops if ends == self._stop_tokens else StopSequences([[token] for token in sorted(ends)])

    def _fork(self, prefills: list[Any]) -> None:
        """Keep the caches that other choices start from: each holds all of its prompt but the last token."""
        for response in prefills:
            if not response.end_of_segment or response.end_of_prompt or response.uid not in self._keys:
                continue
            prefix = self._running[self._keys[response.uid]].prefix
            if prefix is not None and prefix.leader == self._keys[response.uid] and prefix.missing:
                prefix.keep(self._generator.extract_cache([response.uid])[response.uid][0])

    def _report(self, responses: list[Any]) -> dict[int, Report]:
        """The log-probabilities that were asked for, by the generator's names of the rows."""
        wanted = {r.uid: n for r in responses if (n := self._running[self._keys[r.uid]].logprobs) is not None}
        if not wanted:
            return {}
        rows = [r for r in responses if r.uid in wanted]
        reports = report(mx.stack([r.logprobs for r in rows]), [r.token for r in rows], max(wanted.values()))
        return {r.uid: (own, top[: wanted[r.uid]]) for r, (own, top) in zip(rows, reports, strict=True)}

    def _forget(self, key: Key) -> None:
        prefix = self._running.pop(key).prefix
        if prefix is not None and prefix.leader == key and prefix.cache is None:
            prefix.leader = None  # it did not come to the fork: the next choice will
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
