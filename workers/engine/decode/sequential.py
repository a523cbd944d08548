"""One sequence at a time, for models that a batch would change or break."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlx_server.schemas.internal.messages import FinishReason
from mlx_server.workers.engine.decode.admission import CHECK_EVERY, Admission
from mlx_server.workers.engine.decode.one_at_a_time import OneAtATimeEngine
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.sampling.logprobs import Report, log_softmax, report
from mlx_server.workers.engine.sampling.sampling import end_tokens, make_processors, make_sampler
from mlx_server.workers.engine.sequence import Produced, Sequence, Token


class SequentialEngine(OneAtATimeEngine):
    """One prefill chunk or one token in a step. Engine thread only."""

    def __init__(
        self,
        model: Any,
        stop_tokens: set[int],
        *,
        prefill_step_size: int,
        prefixes: PrefixStore | None = None,
        admission: Admission | None = None,
    ) -> None:
        """`prefixes` is the prefix cache, and `admission` bounds the memory of what runs."""
        self._prefixes = prefixes = prefixes or PrefixStore(0)
        self._admission = admission = admission or Admission()

        def start(sequence: Sequence) -> _Run:
            admission.admits(sequence, ())
            return _Run(model, sequence, stop_tokens, prefixes, admission)

        super().__init__(start, prefill_step_size=prefill_step_size)

    def step(self) -> list[Produced]:
        """One step of the running sequence, or the refusal of the next one."""
        refusal = None if self._run else self._admission.refusal(next(iter(self._waiting.values())))
        if refusal is None:
            return super().step()
        self.remove(refusal.key)
        return [refusal]

    def close(self) -> None:
        """Release all sequences and the prefix cache."""
        super().close()
        self._prefixes.close()


class _Run:
    """A sequence with its cache, the tokens still to feed, its sampler and its processors."""

    def __init__(
        self, model: Any, sequence: Sequence, stop_tokens: set[int], prefixes: PrefixStore, admission: Admission
    ) -> None:
        self.sequence = sequence
        self._admission = admission
        self._steps = 0
        self._model = model
        self._prefixes = prefixes
        found: tuple[int, list[Any]] = prefixes.find(sequence) or (0, make_prompt_cache(model))
        self._read, self._cache = found
        self._left = sequence.context[self._read :]
        sequence.found(self._read)
        self._sampler = make_sampler(sequence)
        self._processors = make_processors(sequence, stop_tokens)
        self._ends = end_tokens(sequence, stop_tokens)
        self._logprobs: mx.array

    def advance(self, chunk: int) -> list[Token]:
        """Feed one chunk; the next token once all are fed."""
        self._steps += 1
        if self._steps % CHECK_EVERY == 0:
            self._admission.bound.make_room()
        with self._admission.bound.step():
            return self._feed(chunk)

    def _feed(self, chunk: int) -> list[Token]:
        if len(self._left) > 1:
            length = min(chunk, len(self._left) - 1)
            feed, self._left = self._left[:length], self._left[length:]
            self._model(mx.array([feed]), cache=self._cache)
            mx.eval([c.state for c in self._cache])
            mx.clear_cache()
            self._read += length
            self.sequence.read = self._read
            return []
        logits = self._model(mx.array([self._left]), cache=self._cache)[:, -1, :]
        if self._processors:
            logits = self._processors(mx.array(self.sequence.context), logits)
            if self._processors.error:
                raise self._processors.error
        logprobs = log_softmax(logits)
        sampled = self._sampler(logprobs) if self._sampler else mx.argmax(logits, axis=-1)
        token = int(sampled.item())  # type: ignore[arg-type]
        self._read += len(self._left)
        self.sequence.emitted.append(token)
        self._left = [token]
        most = self.sequence.logprobs
        reported: Report | tuple[()] = () if most is None else report(logprobs, [token], most)[0]
        return [Token(self.sequence.key, token, self._finish_reason(token), *reported)]

    def leave(self) -> None:
        """Cache what has been read: nothing more comes."""
        self._prefixes.keep(self.sequence, self._cache, self._read)

    def _finish_reason(self, token: int) -> FinishReason | None:
        if token in self._ends:
            return "stop"
        return None if self.sequence.remaining else "length"
