"""The next token of each row of a transcript: the most probable one that the rules allow, or one by chance."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from mlx_server.workers.engine.hear.timestamp_rules import Allowed
from mlx_server.workers.engine.hear.whisper_tokens import WhisperTokens


class Chooser:
    """For one model. `vocab_size` is that of its logits."""

    def __init__(self, tokens: WhisperTokens, vocab_size: int) -> None:
        ids = mx.arange(vocab_size)
        self._ids = ids
        self._tokens = tokens
        self._never = masked(ids, sorted({*tokens.never, tokens.no_timestamps}))
        self._blank = masked(ids, sorted(tokens.blank))

    def choose(
        self,
        logits: mx.array,
        allowed: Sequence[Allowed],
        temperatures: Sequence[float],
        keys: Sequence[int],
        *,
        first: bool,
    ) -> tuple[list[int], list[float]]:
        """A token for each row of logits [B, V], float32, and its log-probability in nats.

        `first`: nothing has been written yet. Rows with a temperature are drawn with their `keys`.
        """
        logits = self._ruled(logits + self._never + (self._blank if first else 0), allowed)
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        best = mx.argmax(logits, axis=-1)
        drawn = [
            best[row] if not temperature else mx.random.categorical(logits[row] / temperature, key=mx.random.key(key))
            for row, (temperature, key) in enumerate(zip(temperatures, keys, strict=True))
        ]
        tokens = mx.stack(drawn)
        chosen = mx.take_along_axis(logprobs, tokens[:, None], axis=-1)[:, 0]
        mx.eval(tokens, chosen)
        return np.asarray(tokens).tolist(), np.asarray(chosen).tolist()

    def _ruled(self, logits: mx.array, allowed: Sequence[Allowed]) -> mx.array:
        """The same with what may not come at minus infinity. Where times together are more probable than any text, a
        time comes."""
        ids, tokens = self._ids[None], self._tokens
        text = mx.array([one.text for one in allowed])[:, None]
        end = mx.array([one.end for one in allowed])[:, None]
        earliest = mx.array([one.earliest for one in allowed])[:, None]
        latest = mx.array([one.latest for one in allowed])[:, None]
        is_time = ids >= tokens.timestamp
        # What stands between the end and the times is special, and none of it is ever written.
        may = mx.where(is_time, (ids >= earliest) & (ids <= latest), mx.where(ids < tokens.end, text, end))
        logits = mx.where(may, logits, -mx.inf)
        times = mx.logsumexp(mx.where(is_time, logits, -mx.inf), axis=-1, keepdims=True)
        most = mx.max(mx.where(is_time, -mx.inf, logits), axis=-1, keepdims=True)
        return mx.where((times > most) & ~is_time, -mx.inf, logits)


def masked(ids: mx.array, never: Sequence[int]) -> mx.array:
    """What to add to logits [V] so that these ids never come."""
    hit = (ids[:, None] == mx.array(list(never))[None]).any(axis=-1)
    return mx.where(hit, -mx.inf, 0.0)
