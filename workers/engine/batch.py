"""Continuous batching over mlx-lm's BatchGenerator."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import mlx.core as mx
from mlx_lm.generate import BatchGenerator, StopSequences

from mlx_server.workers.engine.logprobs import Report, report
from mlx_server.workers.engine.prefix import joins_prefix
from mlx_server.workers.engine.replay import ReplayingEngine
from mlx_server.workers.engine.sampling import end_tokens, make_processors, make_sampler
from mlx_server.workers.sequence import Broken, Key, Sequence, Token

GeneratorFactory = Callable[..., Any]


class BatchEngine(ReplayingEngine):
    """Steps up to `rows` sequences together. Engine thread only."""

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
        super().__init__()
        self._make_generator: Callable[[], Any] = lambda: make_generator(
            model,
            completion_batch_size=rows,
            prefill_batch_size=rows if joint_prefill else 1,
            prefill_step_size=prefill_step_size,
        )
        self._generator = self._make_generator()
        self._stop_tokens = stop_tokens
        self._usual_stops = StopSequences([[token] for token in sorted(stop_tokens)])
        self._uids: dict[Key, int] = {}
        self._keys: dict[int, Key] = {}

    def close(self) -> None:
        """Release the generator and all sequences."""
        self._generator.close()
        super().close()

    def _advance(self) -> list[Token | Broken]:
        prefills, responses = self._generator.next()
        self._fork(prefills)
        responses = [r for r in responses if r.uid in self._keys]
        reports = self._report(responses)
        none: tuple[None, tuple[()]] = (None, ())
        return [Token(self._keys[r.uid], r.token, r.finish_reason, *reports.get(r.uid, none)) for r in responses]

    def _take_out(self, keys: Collection[Key]) -> None:
        self._generator.remove([self._uids[key] for key in keys])

    def _discard(self) -> None:
        self._generator.close()
        self._generator = self._make_generator()

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
                prefix.started()
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
                cache = self._generator.extract_cache([response.uid])[response.uid][0]
                mx.eval([layer.state for layer in cache])
                prefix.keep(cache)

    def _report(self, responses: list[Any]) -> dict[int, Report]:
        """The log-probabilities that were asked for, by the generator's names of the rows."""
        wanted = {r.uid: n for r in responses if (n := self._running[self._keys[r.uid]].logprobs) is not None}
        if not wanted:
            return {}
        rows = [r for r in responses if r.uid in wanted]
        reports = report(mx.stack([r.logprobs for r in rows]), [r.token for r in rows], max(wanted.values()))
        return {r.uid: (own, top[: wanted[r.uid]]) for r, (own, top) in zip(rows, reports, strict=True)}

    def _forget(self, key: Key) -> None:
        super()._forget(key)
        self._keys.pop(self._uids.pop(key, -1), None)
