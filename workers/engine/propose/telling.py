"""A model that tells its hidden states to what drafts from them: they are kept beside its KV states, as one layer more,
and so are cut, kept and found again with these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache, make_prompt_cache

from mlx_server.workers.engine.kvcache.holes import columns_of


class TellingModel:
    """A language model whose caches end with a layer of hidden states. All else is the model's. Engine thread only."""

    def __init__(self, model: Any, parts: list[Any]) -> None:
        """Kept is what comes out of these `parts` of the model, layers or norms in the order in which they are
        computed, side by side: the sum of their widths must be even."""
        self._model = model
        self._heard = Heard()
        for part in parts:
            self._heard.listen(part)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, tokens: mx.array, cache: list[Any] | None = None, **more: Any) -> mx.array:
        """Logits [B, T, V] after each of the token ids [B, T]."""
        if cache is None:
            return self._model(tokens, **more)  # type: ignore[no-any-return]
        *own, states = cache
        with self._heard.listening() as heard:
            logits: mx.array = self._model(tokens, cache=own, **more)
        # Half of them stand where a layer has its keys, half where it has its values.
        states.update_and_fetch(*mx.split(mx.concatenate(heard, axis=-1)[:, None], 2, axis=-1))
        mx.async_eval(states.keys, states.values)  # or nobody would ask for them, step after step
        return logits

    def make_cache(self) -> list[Any]:
        """An empty cache of one row."""
        return [*make_prompt_cache(self._model), KVCache()]


class Heard:
    """What comes out of parts of a model, in the order in which they are computed."""

    def __init__(self) -> None:
        self._states: list[mx.array] | None = None

    def listen(self, part: Any) -> None:
        """Listen to a part: its class becomes one that tells what comes out, and its weights keep their names."""
        heard, kind = self, type(part)

        class Listened(kind):  # type: ignore[misc, valid-type]
            def __call__(self, *arguments: Any, **options: Any) -> Any:
                found = super().__call__(*arguments, **options)
                heard.hear(found[0] if isinstance(found, tuple) else found)
                return found

        part.__class__ = Listened

    def hear(self, states: mx.array) -> None:
        """Take in hidden states [B, T, D], if they are wanted."""
        if self._states is not None:
            self._states.append(states)

    @contextmanager
    def listening(self) -> Iterator[list[mx.array]]:
        """A context in which all is taken in, as states [B, T, D] in the list that it gives."""
        states: list[mx.array] = []
        self._states = states
        try:
            yield states
        finally:
            self._states = None


def hidden_of(states: Any, spans: Sequence[tuple[int, int, int]]) -> mx.array:
    """The hidden states [B, T, D] in a cache's last layer: of each of `spans`, those of a row at its places from one up
    to another. A shorter span is filled up behind its end with any of its row."""
    columns = [columns_of(states, *span) for span in spans]
    longest = max(map(len, columns))
    padded = mx.array(np.stack([np.pad(own, (0, longest - len(own))) for own in columns]))
    rows = mx.array([[row] for row, _, _ in spans])
    return mx.concatenate([half[:, 0][rows, padded] for half in (states.keys, states.values)], axis=-1)
