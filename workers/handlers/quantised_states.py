"""A model that holds its KV states in few bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache, make_prompt_cache

from mlx_server.schemas.internal.state_bits import StateBits
from mlx_server.workers.engine.decode.probe import distance, tolerance
from mlx_server.workers.engine.kvcache.quantised import PackedKVCache, QuantisedKVCache
from mlx_server.workers.engine.sampling.logprobs import log_softmax
from mlx_server.workers.errors import ModelLoadError, one_line

TRIED = StateBits((8,))
"""Bits while a model is tried: fewer make more of rounding, so that a trial would show little else."""

PASSES = (11, 1, 1)
"""Tokens of the passes of a trial."""


class QuantisedStates:
    """Has a model's caches made with quantised layers, in place of those that keep every token. What windows and
    recurrent layers keep stays as it is. Engine thread only."""

    def __init__(self, model: Any, bits: StateBits, *, packed: bool) -> None:
        """`packed`: the model's attention is to read them as they are held, as GPUs do well, if it can. Until they are
        to be held in `bits` bits, they have those that the model is tried with. Raises ModelLoadError if there are no
        such layers, or it can't read them in either way."""
        plain = make_prompt_cache(model)
        count = sum(type(layer) is KVCache for layer in plain)
        if not count:
            raise ModelLoadError("--kv-bits: this model's cache has nothing that can be quantised")
        try:
            self._widths = bits.of_layers(count)
        except ValueError as error:
            raise ModelLoadError(f"--kv-bits {error}") from None
        self._model, self._kind = model, QuantisedKVCache
        others = f"; {len(plain) - count} layers of another kind stay as they are" if count < len(plain) else ""
        self.note = f"--kv-bits {bits}: KV states of {count} layers are quantised{others}"
        self._make_plain: Callable[[], list[Any]] = getattr(model, "make_cache", lambda: [KVCache() for _ in plain])
        self._make(TRIED.of_layers(count))
        try:
            expected = last(model)
        except Exception as error:  # noqa: BLE001 - a model that can't read such a cache may raise anything
            raise ModelLoadError(f"--kv-bits: this model's cache can't be quantised: {one_line(error)}") from None
        if packed:
            self._kind = PackedKVCache
            if not gives(model, expected):
                self._kind = QuantisedKVCache

    def hold(self) -> None:
        """Have caches hold their states in as many bits as was asked for, from now on."""
        self._make(self._widths)

    def _make(self, widths: tuple[int, ...]) -> None:
        def make_cache() -> list[Any]:
            left = iter(widths)
            return [self._kind(next(left)) if type(layer) is KVCache else layer for layer in self._make_plain()]

        self._model.make_cache = make_cache


def last(model: Any) -> mx.array:
    """The log-probabilities [V] in nats after a few tokens, some of them read one by one. Raises anything."""
    cache, logits = make_prompt_cache(model), mx.array([])
    for tokens in PASSES:
        logits = model(mx.arange(1, tokens + 1)[None], cache=cache)[0, -1]
    return log_softmax(logits)


def gives(model: Any, expected: mx.array) -> bool:
    """Whether `last` gives the log-probabilities [V] that are expected, in nats, up to rounding."""
    try:
        return distance(expected, last(model)) <= tolerance(model)
    except Exception:  # noqa: BLE001 - as there
        return False
