"""A vision model that reads only text, with the interface of mlx-lm's models."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_vlm.models.cache import make_prompt_cache

from mlx_server.workers.engine.vision.prefill import POSITION_STATE, restore


class TextModel:
    """Token ids [B, L] to logits [B, L, V]."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def layers(self) -> Any:
        """Its layers, one for each entry of the cache."""
        return self._model.language_model.layers

    def make_cache(self) -> list[Any]:
        """An empty cache."""
        return list(make_prompt_cache(self._model.language_model))

    def __call__(self, ids: mx.array, cache: list[Any] | None = None) -> mx.array:
        """Logits [B, L, V] of all tokens, from token ids int32 [B, L]."""
        language_model = self._model.language_model
        restore(language_model, dict.fromkeys(POSITION_STATE))
        embeddings = self._model.get_input_embeddings(ids, None, mask=mx.ones_like(ids)).inputs_embeds
        logits: mx.array = language_model(ids, inputs_embeds=embeddings, cache=cache).logits
        return logits

    def vocab_size(self) -> int:
        """The width of the logits."""
        return int(self(mx.array([[0]]), self.make_cache()).shape[-1])
