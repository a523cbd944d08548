"""One sequence at a time, for models that a batch would change or break."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlx_server.schemas.messages import FinishReason
from mlx_server.workers.engine.logprobs import Report, report
from mlx_server.workers.engine.sampling import end_tokens, make_processors, make_sampler
from mlx_server.workers.sequence import Broken, Key, Produced, Sequence, Token


class SequentialEngine:
    """The same steps as the batch's, for the first sequence in line. Engine thread only."""

    def __init__(self, model: Any, stop_tokens: set[int], *, prefill_step_size: int) -> None:
        self._model = model
        self._stop_tokens = stop_tokens
        self._prefill_step_size = prefill_step_size
        self._waiting: dict[Key, Sequence] = {}
        self._run: _Run | None = None

    @property
    def busy(self) -> bool:
        """Some sequence wants a step."""
        return bool(self._waiting or self._run)

    def add(self, sequence: Sequence) -> None:
        """Put a sequence in line."""
        self._waiting[sequence.key] = sequence

    def remove(self, key: Key) -> None:
        """Drop a sequence, wherever it is; unknown keys are ignored."""
        self._waiting.pop(key, None)
        if self._run is not None and self._run.sequence.key == key:
            self._run = None

    def step(self) -> list[Produced]:
        """One chunk of prefill or one token of the running sequence."""
        sequence = self._run.sequence if self._run else self._waiting.pop(next(iter(self._waiting)))
        try:
            self._run = run = self._run or _Run(self._model, sequence, self._stop_tokens)
            token = run.advance(self._prefill_step_size)
        except Exception as error:  # noqa: BLE001 - whatever a step raises ends this sequence only
            self._run = None
            return [Broken(sequence.key, f"{type(error).__name__}: {error}")]
        if token is None:
            return []
        finish = run.finish_reason(token)
        if finish is not None:
            self._run = None
        return [Token(sequence.key, token, finish, *run.report(token))]

    def close(self) -> None:
        """Release all sequences."""
        self._waiting.clear()
        self._run = None


class _Run:
    """A sequence with its cache, the tokens left to feed, its sampler and its processors."""

    def __init__(self, model: Any, sequence: Sequence, stop_tokens: set[int]) -> None:
        self.sequence = sequence
        self._model = model
        self._cache = make_prompt_cache(model)
        self._left = sequence.context
        self._sampler = make_sampler(sequence)
        self._processors = make_processors(sequence, stop_tokens)
        self._ends = end_tokens(sequence, stop_tokens)
        self._logprobs: mx.array

    def advance(self, chunk: int) -> int | None:
        """Feed one chunk; the next token once the last one has been fed."""
        if len(self._left) > 1:
            feed, self._left = (
                self._left[: min(chunk, len(self._left) - 1)],
                self._left[min(chunk, len(self._left) - 1) :],
            )
            self._model(mx.array([feed]), cache=self._cache)
            mx.eval([c.state for c in self._cache])
            mx.clear_cache()
            return None
        logits = self._model(mx.array([self._left]), cache=self._cache)[:, -1, :]
        if self._processors:
            logits = self._processors(mx.array(self.sequence.context), logits)
            if self._processors.error:
                raise self._processors.error
        self._logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        sampled = self._sampler(self._logprobs) if self._sampler else mx.argmax(logits, axis=-1)
        token = int(sampled.item())  # type: ignore[arg-type]
        self.sequence.emitted.append(token)
        self._left = [token]
        return token

    def report(self, token: int) -> Report | tuple[()]:
        """The last token's log-probability and its alternatives, if they are wanted."""
        most = self.sequence.logprobs
        return () if most is None else report(self._logprobs, [token], most)[0]

    def finish_reason(self, token: int) -> FinishReason | None:
        """Why the sequence ends with this token; None if it goes on."""
        if token in self._ends:
            return "stop"
        return None if self.sequence.remaining else "length"
