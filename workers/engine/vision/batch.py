"""Continuous batching with mlx-vlm's parts: each prompt is read by itself, then its row decodes with the others."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import mlx.core as mx
from mlx_vlm.generate.ar import GenerationBatch
from mlx_vlm.generate.ar import _is_batch_cache_entry as is_batch

from mlx_server.schemas.internal.messages import FinishReason
from mlx_server.workers.engine.decode.admission import Admission
from mlx_server.workers.engine.decode.prefill_budget import PrefillBudget
from mlx_server.workers.engine.decode.replayable import ReplayingEngine
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.kvcache.shared_prefix import joins_prefix
from mlx_server.workers.engine.sampling.logprobs import Report, log_softmax, report
from mlx_server.workers.engine.sampling.sampling import end_tokens, make_processors
from mlx_server.workers.engine.sequence import Broken, Key, Sequence, Token
from mlx_server.workers.engine.vision.batch_sampler import ReportingSamplers
from mlx_server.workers.engine.vision.features import RememberingTower
from mlx_server.workers.engine.vision.looking import Looker
from mlx_server.workers.engine.vision.prefill import Prefill
from mlx_server.workers.engine.vision.prefill_queue import PrefilledPrompts, PromptReader
from mlx_server.workers.engine.vision.together import Joinable

CLEAR_EVERY = 256
"""Steps after which memory that nobody uses goes back, as in mlx-vlm's own loop."""

NO_LIMIT = 1 << 31
"""The batch is never told when a row ends: that is decided here, row by row."""


class VisionEngine(ReplayingEngine):
    """Steps up to `rows` sequences together. Engine thread only.

    Each step is one token for every row, and a chunk of one prompt, or several short prompts.
    """

    def __init__(
        self,
        model: Any,
        stop_tokens: set[int],
        *,
        rows: int,
        prefill_step_size: int,
        tower: RememberingTower | None = None,
        prefixes: PrefixStore | None = None,
        gap_s: float | None = None,
        admission: Admission | None = None,
        joinable: Joinable | None = None,
    ) -> None:
        """`tower` is the feature cache before the model's encoder, if there is one, `prefixes` the prefix cache,
        `gap_s` the longest time between two tokens to aim for during prefill; `admission` bounds the memory of what
        runs, and `joinable` prompts are read together."""
        super().__init__(admission)
        self._prefixes = prefixes or PrefixStore(0)
        self._model = model
        self._stop_tokens = stop_tokens
        self._rows = rows
        self._pace = PrefillBudget(gap_s, prefill_step_size)
        looks = PrefillBudget(gap_s, prefill_step_size)
        looks.steps = self._pace.steps
        looker = Looker(model, tower, looks)
        self._prompts = PromptReader(model, self._pace, looker, self._prefixes, rows, joinable or Joinable())
        self._samplers = ReportingSamplers()
        self._batch = self._empty_batch()
        self._undisturbed = True
        """Nothing was read in the step before, so that this one's time is that of decoding."""

    def close(self) -> None:
        """Release all sequences."""
        self._discard()
        super().close()

    def _empty_batch(self) -> GenerationBatch:
        self._samplers.clear()
        language_model = self._model.language_model
        return GenerationBatch.empty(language_model, self._draw, lambda _: False, compute_logprobs=False)

    def _draw(self, logprobs: mx.array) -> mx.array:
        return self._samplers.draw(self._batch.uids, logprobs)

    def _discard(self) -> None:
        self._prompts.clear()
        self._batch = self._empty_batch()

    def _take_out(self, keys: Collection[Key]) -> None:
        for key in keys:
            self._samplers.remove(key)
            self._prompts.remove(key)
        leaving = {row: key for row, key in enumerate(self._batch.uids) if key in keys}
        for row, key in leaving.items():
            self._keep_row(row, self._running[key])
        if leaving:
            self._batch.filter([row for row in range(len(self._batch.uids)) if row not in leaving])

    def _keep_row(self, row: int, sequence: Sequence) -> None:
        if self._prefixes.keeps:
            # The cache of a row that has always been alone is no batch's, and is left to whoever wants it.
            alone = not all(map(is_batch, self._batch.prompt_cache))
            cache = [layer if alone else layer.extract(row) for layer in self._batch.prompt_cache]
            self._prefixes.keep(sequence, cache, len(sequence.context))

    def _insert(self, sequence: Sequence) -> None:
        key, prefix = sequence.key, sequence.prefix
        if len(self._running) >= self._rows:
            return
        prefill: Prefill | None = None
        if prefix is not None and joins_prefix(sequence):
            if prefix.cache is not None:
                prefill = prefix.take(key)
            elif prefix.leader not in (None, key):
                return
            else:
                prefix.lead(key)
        self._running[key] = self._waiting.pop(key)
        self._prompts.add(sequence, prefill)
        if processors := make_processors(sequence, self._stop_tokens):
            self._processors[key] = processors

    def _advance(self) -> list[Token | Broken]:
        began, running = time.monotonic(), len(self._batch.uids)
        if self._prompts.busy and self._nobody_waits:
            running = 0
        produced: list[Token | Broken] = [*self._decode()] if running else []
        self._undisturbed = not self._prompts.busy or not self._pace.may_read(running)
        for one in [] if self._undisturbed else self._prompts.step(running=running, since=began):
            match one:
                case PrefilledPrompts():
                    self._join(one)
                case Broken():
                    produced.append(one)
        return produced

    def _decode(self) -> list[Token]:
        began, drawn = time.monotonic(), self._samplers.drawn()
        responses = self._batch.next()
        if self._undisturbed:
            self._pace.steps.append((time.monotonic() - began, len(responses)))
            self._pace.reads = 0
        if self._steps % CLEAR_EVERY == 0:
            mx.clear_cache()
        reports = self._report({r.uid: r.token for r in responses}, drawn)
        none: tuple[None, tuple[()]] = (None, ())
        return [Token(r.uid, r.token, self._finish(r.uid, r.token), *reports.get(r.uid, none)) for r in responses]

    def _finish(self, key: Key, token: int) -> FinishReason | None:
        sequence = self._running[key]
        if token in end_tokens(sequence, self._stop_tokens):
            return "stop"
        return "length" if sequence.remaining <= 1 else None

    def _report(self, tokens: dict[Key, int], drawn: dict[Key, mx.array]) -> dict[Key, Report]:
        """The reports on tokens drawn in the previous step, of rows whose sequences asked for them."""
        wanted = {key: n for key in tokens if (n := self._running[key].logprobs) is not None}
        if not wanted:
            return {}
        rows = mx.concatenate([drawn[key] for key in wanted])
        reports = report(rows, [tokens[key] for key in wanted], max(wanted.values()))
        return {key: (own, top[: wanted[key]]) for key, (own, top) in zip(wanted, reports, strict=True)}

    def _join(self, read: PrefilledPrompts) -> None:
        """Draw the first tokens of prompts and have their rows decode with the others."""
        keys = [sequence.key for sequence in read.sequences]
        processors = [self._processors.get(key) for key in keys]
        rows = [read.logits[row : row + 1] for row in range(len(keys))]
        for row, (sequence, own) in enumerate(zip(read.sequences, processors, strict=True)):
            rows[row] = rows[row] if own is None else own(mx.array(sequence.context), rows[row])
            self._samplers.add(sequence)
        first = self._samplers.draw(keys, log_softmax(mx.concatenate(rows)))
        batch = GenerationBatch(
            self._model.language_model,
            keys,
            first,
            read.cache,
            self._draw,
            lambda _: False,
            [NO_LIMIT] * len(keys),
            token_context=[sequence.context for sequence in read.sequences],
            logits_processors=[[own] if own else [] for own in processors] if any(processors) else [],
        )
        batch.compute_logprobs = False
        batch._rope_deltas = read.rope_deltas
        self._batch.extend(batch)
