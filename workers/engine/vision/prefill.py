"""One prompt on its way through a model, chunk by chunk, as mlx-vlm's own unbatched loop feeds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
from mlx_vlm.generate.common import _chunked_prefill_enabled
from mlx_vlm.models.cache import make_prompt_cache

from mlx_server.workers.engine.vision.inputs import MediaInputs

POSITION_STATE = ("_position_ids", "_rope_deltas")
"""What language models keep on themselves for the prompt that they are reading: others are read in between."""


class NeedsEncoder(Exception):  # noqa: N818 - named for what it says
    """Raised when a model needs its encoder's states in every step."""

    def __init__(self) -> None:
        super().__init__("this architecture needs its encoder's states in every step")


@dataclass(eq=False, slots=True)
class Prefill:
    """What is left of a prompt, and the cache with what has been read. Engine thread only.

    `extras` are what the model's language part is given beside embeddings, for all of the prompt: it picks the window
    that it is at by its cache.
    """

    ids: mx.array
    embeddings: mx.array
    extras: dict[str, Any]
    cache: list[Any]
    chunked: bool
    positions: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Tokens that have not been read."""
        return int(self.ids.shape[1])

    def advance(self, model: Any, chunk: int) -> bool:
        """Read a chunk, but never the last token; whether there was anything to read."""
        length = min(chunk, self.left - 1)
        if not self.chunked or length < 1:
            return False
        self._feed(model, length, n_to_process=length)
        mx.eval([layer.state for layer in self.cache])
        self.ids, self.embeddings = self.ids[:, length:], self.embeddings[:, length:]
        mx.clear_cache()
        return True

    def finish(self, model: Any) -> mx.array:
        """Read the rest; the logits of the next token [1, V]."""
        output = self._feed(model, self.left)
        if output.cross_attention_states is not None or output.encoder_outputs is not None:
            raise NeedsEncoder
        logits: mx.array = output.logits[:, -1, :]
        return logits

    def rope_deltas(self, model: Any) -> mx.array | None:
        """How far this prompt's positions are from its tokens' numbers [1, 1]; None for a model that counts tokens."""
        if not hasattr(model.language_model, "_rope_deltas"):
            return None
        deltas = self.extras.get("rope_deltas")
        if deltas is None:
            deltas = model.language_model._rope_deltas
        return mx.zeros((1, 1), mx.int32) if deltas is None else deltas.reshape(-1, 1)[:1]

    def _feed(self, model: Any, length: int, **how: Any) -> Any:
        restore(model.language_model, self.positions)
        output = model.language_model(
            self.ids[:, :length],
            inputs_embeds=self.embeddings[:, :length],
            cache=self.cache,
            logits_to_keep=1,
            **how,
            **self.extras,
        )
        self.positions = saved(model.language_model)
        return output


def begin(model: Any, tokens: list[int], media: MediaInputs | None) -> Prefill:
    """A prompt at its beginning: its pictures are encoded."""
    ids = mx.array([tokens])
    arrays = dict(media.arrays) if media is not None else {}
    restore(model.language_model, dict.fromkeys(POSITION_STATE))
    pixels, mask = arrays.pop("pixel_values", None), mx.ones_like(ids)
    given = model.get_input_embeddings(ids, pixels, mask=mask, **arrays).to_dict()
    extras = arrays | {name: value for name, value in given.items() if value is not None}
    embeddings = extras.pop("inputs_embeds")
    mx.eval(embeddings)
    cache = make_prompt_cache(model.language_model)
    chunked = _chunked_prefill_enabled(
        model, input_ids=ids, inputs_embeds=embeddings, prompt_cache=cache, prefill_kwargs=extras
    )
    return Prefill(ids, embeddings, extras, cache, chunked, saved(model.language_model))


def saved(language_model: Any) -> dict[str, Any]:
    """The state of the prompt that was read last."""
    return {name: getattr(language_model, name) for name in POSITION_STATE if hasattr(language_model, name)}


def restore(language_model: Any, state: dict[str, Any]) -> None:
    """Have the language model go on with another prompt."""
    for name, value in state.items():
        if hasattr(language_model, name):
            setattr(language_model, name, value)
