"""Continuous batching of language models: a step is a token for every row, and a prefill chunk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

import mlx.core as mx

from mlx_server.workers.engine.decode.admission import Admission
from mlx_server.workers.engine.decode.decode_batch import DecodeBatch, Drawn
from mlx_server.workers.engine.decode.length_buckets import REARRANGED_EVERY, WORTH_MOVING, LengthBuckets
from mlx_server.workers.engine.decode.prefill import Prefiller, Read
from mlx_server.workers.engine.decode.prefill_budget import PrefillBudget
from mlx_server.workers.engine.decode.replayable import ReplayingEngine
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.kvcache.shared_prefix import joins_prefix
from mlx_server.workers.engine.passes.joined import JoinedModel
from mlx_server.workers.engine.sampling.logprobs import Report, report
from mlx_server.workers.engine.sampling.sampling import make_processors
from mlx_server.workers.engine.sequence import Broken, Key, Sequence, Token
from mlx_server.workers.log_lines import about

log = logging.getLogger(__name__)

MakeRows = Callable[[Any, set[int]], DecodeBatch]
"""Makes an empty batch for a model and the tokens that end its answers."""


class BatchEngine(ReplayingEngine):
    """Steps up to `rows` sequences together. Engine thread only.

    Each step is one token for every row, and one turn of prefill.
    """

    def __init__(
        self,
        model: Any,
        stop_tokens: set[int],
        *,
        rows: int,
        joint_prefill: bool,
        prefill_step_size: int,
        prefixes: PrefixStore | None = None,
        gap_s: float | None = None,
        admission: Admission | None = None,
        context_length: int | None = None,
        make_rows: MakeRows = DecodeBatch,
        make_reader: Callable[..., Prefiller] = Prefiller,
        joins: bool = False,
    ) -> None:
        """`prefixes` is the prefix cache, `gap_s` the longest time between two tokens to aim for during prefill,
        `admission` bounds the memory of what runs, `context_length` the positions, padding included; `joins`: a chunk
        of a prompt and the rows' next tokens are read in one pass."""
        super().__init__(admission)
        self._joined = JoinedModel(model) if joins else None
        self._model = model
        self._stop_tokens = stop_tokens
        self._row_count = rows
        self._prefixes = prefixes or PrefixStore(0)
        self._pace = PrefillBudget(gap_s, prefill_step_size)
        self._make_rows = make_rows
        self._rows = self._empty_rows()
        self._reader = make_reader(
            model,
            rows=rows,
            joint=joint_prefill,
            pace=self._pace,
            prefixes=self._prefixes,
            marks=frozenset(stop_tokens),
            context_length=context_length,
            joined=self._joined,
        )
        self._undisturbed = True
        """Nothing was read in the step before, so that this one's time is that of decoding."""

    @property
    def groups(self) -> list[list[Key]]:
        """The keys of each batch's rows."""
        return self._rows.groups

    def close(self) -> None:
        """Release all sequences and the prefix cache."""
        self._discard()
        super().close()
        self._prefixes.close()

    def _insert(self, sequence: Sequence) -> None:
        key, prefix = sequence.key, sequence.prefix
        if len(self._running) >= self._row_count:
            return
        cache = None
        if prefix is not None and joins_prefix(sequence):
            if prefix.cache is not None:
                cache = prefix.take(key)
            elif prefix.leader not in (None, key):
                return
            else:
                prefix.lead(key)
        self._running[key] = self._waiting.pop(key)
        if not sequence.context:
            raise EmptyPrompt
        if processors := make_processors(sequence, self._stop_tokens):
            self._processors[key] = processors
        self._reader.add(sequence, cache)

    def _advance(self) -> list[Token | Broken]:
        began, running = time.monotonic(), len(self._running) - len(self._reader.readings)
        if self._reader.readings and self._nobody_waits:
            running = 0
        reads = bool(self._reader.readings) and self._pace.may_read(running)
        along = reads and self._reader.begin(running=running)
        produced: list[Token | Broken] = [*self._decode(running, along=along)] if running else []
        self._undisturbed = not reads
        read = self._reader.step(running=running, since=began) if reads else []
        produced += (item for item in read if isinstance(item, Broken))
        self._rows.join([(item.sequences, item.cache) for item in read if isinstance(item, Read)], self._processors)
        return produced

    def _decode(self, running: int, *, along: bool) -> list[Token]:
        if self._steps % REARRANGED_EVERY == 0:
            self._rows.arrange(WORTH_MOVING)
        began, measured = time.monotonic(), self._undisturbed and not along
        drawn = [one for batch in self._rows.batches for one in batch.step()]
        if measured:
            self._pace.steps.append((time.monotonic() - began, running))
            self._pace.reads = 0
        reports = self._reports(drawn)
        return [Token(one.key, one.token, one.finish, *reported) for one, reported in zip(drawn, reports, strict=True)]

    def _reports(self, drawn: list[Drawn]) -> Iterable[Report | tuple[()]]:
        """A report on each token, which is empty where its sequence asked for no log-probabilities."""
        rows = [one.logprobs for one in drawn if one.logprobs is not None]
        if not rows:
            return [()] * len(drawn)
        wanted = [(one.token, self._running[one.key].logprobs or 0) for one in drawn if one.logprobs is not None]
        reports = report(mx.concatenate(rows), [token for token, _ in wanted], max(most for _, most in wanted))
        cut = iter([(own, top[:most]) for (own, top), (_, most) in zip(reports, wanted, strict=True)])
        return [() if one.logprobs is None else next(cut) for one in drawn]

    def _take_out(self, keys: Collection[Key]) -> None:
        for key in keys:
            try:
                self._reader.remove(key)
                self._keep(self._running[key])
            except Exception:  # what can't be kept is read again: it is not worth the engine's life
                log.exception("a prompt is not kept", extra=about([key]))
        self._rows.leave(keys)

    def _keep(self, sequence: Sequence) -> None:
        """Cache what a row that leaves has read."""
        if self._prefixes.keeps and sequence.use_cache and (state := self._rows.state(sequence.key)) is not None:
            self._prefixes.keep(sequence, *state)

    def _empty_rows(self) -> LengthBuckets:
        model = self._joined or self._model
        return LengthBuckets(lambda: self._make_rows(model, self._stop_tokens), self._admission.own_cost)

    def _discard(self) -> None:
        self._reader.clear()
        self._rows = self._empty_rows()


class EmptyPrompt(Exception):  # noqa: N818 - named for what it says
    """Raised when a sequence has no token to start from."""

    def __init__(self) -> None:
        super().__init__("the prompt is empty")
