"""Parts of speculative decoding: models that read and forget, a draft model that proposes, one way to choose."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import msgspec
from mlx_lm.models.cache import can_trim_prompt_cache, make_prompt_cache, trim_prompt_cache

from mlx_server.workers.engine.kvcache.flatten import flat
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.sampling.logprobs import log_softmax
from mlx_server.workers.engine.sampling.sampling import SeededSampler, make_sampler
from mlx_server.workers.engine.sequence import Sequence


class Reader:
    """A model with its cache of one sequence."""

    def __init__(self, model: Any, sequence: Sequence, prefixes: PrefixStore) -> None:
        """`prefixes` is this model's prefix cache; reading begins after the cached prefix."""
        self._model = model
        self._sequence = sequence
        self._prefixes = prefixes
        found: tuple[int, list[Any]] = prefixes.find(sequence) or (0, make_prompt_cache(model))
        self.length, self._cache = found

    def read(self, tokens: mx.array) -> mx.array:
        """Read token ids [T] and return their logits [T, V]."""
        self.length += tokens.size
        return self._model(tokens[None], cache=self._cache)[0]  # type: ignore[no-any-return]

    def prefill(self, tokens: list[int]) -> None:
        """Read a prefill chunk now."""
        self.read(mx.array(tokens))
        mx.eval([cache.state for cache in self._cache])
        mx.clear_cache()

    def keep(self) -> None:
        """Cache what has been read: nothing more is."""
        self.forget_after(len(self._sequence.context))
        self._prefixes.keep(self._sequence, self._cache, self.length)

    def forget_after(self, length: int) -> None:
        """Cut the cache to at most `length` tokens. Raises RuntimeError if it can't be cut."""
        surplus = self.length - length
        if surplus > 0:
            if trim_prompt_cache(self._cache, surplus) != surplus:
                raise RuntimeError("the cache could not be trimmed")
            self.length = length

    def may_forget(self, tokens: int) -> bool:
        """Whether the cache can still be cut after `tokens` more tokens: a full sliding window can't."""
        windows = [size for cache in flat(self._cache) if (size := getattr(cache, "max_size", None))]
        return all(self.length + tokens < size for size in windows) and can_trim_prompt_cache(self._cache)


@dataclass(frozen=True, slots=True)
class DraftModel:
    """A draft model.

    `vocab_size` is the width of its logits, `width` that of the model's it proposes to; `context_length` is in tokens,
    None where its config does not say.
    """

    model: Any
    vocab_size: int
    width: int
    context_length: int | None


class Proposer:
    """The draft model's side of one sequence."""

    def __init__(self, draft: DraftModel, sequence: Sequence, prefixes: PrefixStore) -> None:
        """`prefixes` is the draft model's prefix cache."""
        self._draft = draft
        self.reader = Reader(draft.model, sequence, prefixes)

    def room(self, context: int) -> int:
        """How many tokens it can propose after `context` tokens."""
        longest = self._draft.context_length
        return (1 << 31) if longest is None else longest - context

    def known(self, tokens: list[int]) -> list[int]:
        """Token ids, clamped to the draft model's vocabulary: embeddings look them up unchecked."""
        return [min(token, self._draft.vocab_size - 1) for token in tokens]

    def propose(self, context: list[int], count: int, chooser: Chooser) -> mx.array:
        """The draft model's choice of the next `count` token ids after the context, int32 [count]."""
        tokens = mx.array(self.known(context[self.reader.length :]))
        proposed: list[mx.array] = []
        for place in range(len(context), len(context) + count):
            logits = fitted(self.reader.read(tokens)[-1:], self._draft.width)
            tokens = chooser.choose(logits, place).astype(mx.int32)
            mx.async_eval(tokens)
            proposed.append(tokens)
        return mx.concatenate(proposed)


class Chooser:
    """Chooses tokens by their places in the sequence, so that both models choose alike."""

    def __init__(self, sequence: Sequence) -> None:
        if sequence.sampling.seed is None:
            sampling = msgspec.structs.replace(sequence.sampling, seed=secrets.randbits(63))
            sequence = replace(sequence, sampling=sampling)
        sampler = make_sampler(sequence)
        assert sampler is None or isinstance(sampler, SeededSampler)
        self._sampler = sampler
        self._start = len(sequence.prompt)

    def choose(self, logits: mx.array, first: int) -> mx.array:
        """Token ids uint32 [T], chosen from the logits [T, V] of the places from `first` on."""
        if self._sampler is None:
            return mx.argmax(logits, axis=-1)
        logprobs = log_softmax(logits)
        rows = range(logits.shape[0])
        return mx.concatenate([self._sampler.at(first - self._start + i, logprobs[i : i + 1]) for i in rows])


def fitted(logits: mx.array, width: int) -> mx.array:
    """Logits [T, V] as [T, width], cut or padded with -inf, same dtype: models of a family pad their vocabularies
    differently.

    A key's draw depends on the width: only equal widths draw alike.
    """
    missing = width - logits.shape[-1]
    if missing <= 0:
        return logits[:, :width]
    return mx.pad(logits, [(0, 0), (0, missing)], constant_values=mx.array(-mx.inf, logits.dtype))


def trimmable(model: Any) -> bool:
    """Whether a model's cache can be cut, at least until one of its sliding windows is full."""
    return bool(can_trim_prompt_cache(make_prompt_cache(model)))
