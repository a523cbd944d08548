"""One prompt on its way through a model, chunk by chunk, as mlx-vlm's own unbatched loop feeds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
from mlx_vlm.generate.ar import _is_sequence_aligned_prompt_kwarg as is_aligned
from mlx_vlm.generate.ar import _pad_sequence_aligned_prompt_kwarg as pad_aligned
from mlx_vlm.generate.ar import _slice_sequence_aligned_prompt_kwarg as cut_aligned
from mlx_vlm.generate.common import _chunked_prefill_enabled
from mlx_vlm.generate.dispatch import _prime_cached_prefix_rope_state
from mlx_vlm.models.cache import make_prompt_cache

from mlx_server.workers.engine.vision.inputs import MediaInputs
from mlx_server.workers.engine.vision.per_image import of_pictures

POSITION_STATE = ("_position_ids", "_rope_deltas")
"""What language models keep on themselves for the prompt that they are reading: others are read in between."""


class NeedsEncoder(Exception):  # noqa: N818 - named for what it says
    """Raised when a model needs its encoder's states in every step."""

    def __init__(self) -> None:
        super().__init__("this architecture needs its encoder's states in every step")


class CannotContinue(Exception):  # noqa: N818 - named for what it says
    """Raised when a prompt can't be read from a token in its middle."""


@dataclass(eq=False, slots=True)
class Prefill:
    """The rest of a prompt, ids int32 [1, T] and embeddings [1, T, D], and the cache of what has been read. Engine
    thread only.

    `extras` are the other arguments of the model's language part, for all of the prompt: it finds the part it needs by
    its cache.
    """

    ids: mx.array
    embeddings: mx.array
    extras: dict[str, Any]
    cache: list[Any]
    chunked: bool
    untouched: bool = True
    """Nothing has been read of it, nor was any of it known."""
    positions: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Tokens still to be read."""
        return int(self.ids.shape[1])

    def advance(self, model: Any, chunk: int) -> bool:
        """Read a chunk, but never the last token; False if there was nothing to read."""
        length = min(chunk, self.left - 1)
        if not self.chunked or length < 1:
            return False
        self._feed(model, length, n_to_process=length)
        mx.eval([layer.state for layer in self.cache])
        self.ids, self.embeddings = self.ids[:, length:], self.embeddings[:, length:]
        mx.clear_cache()
        return True

    def finish(self, model: Any) -> mx.array:
        """Read the rest; the logits [1, V] of the next token. Raises NeedsEncoder."""
        return next_logits(self._feed(model, self.left))

    def rope_deltas(self, model: Any) -> mx.array | None:
        """How far this prompt's positions are from its tokens' numbers, an integer [1, 1]; None for a model that counts
        tokens."""
        if not hasattr(model.language_model, "_rope_deltas"):
            return None
        deltas = self.extras.get("rope_deltas")
        if deltas is None:
            deltas = model.language_model._rope_deltas
        return mx.zeros((1, 1), mx.int32) if deltas is None else deltas.reshape(-1, 1)[:1]

    def _feed(self, model: Any, length: int, **how: Any) -> Any:
        self.untouched = False
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


def next_logits(output: Any) -> mx.array:
    """The logits [B, V] of the next tokens, of what a language model returned. Raises NeedsEncoder."""
    if output.cross_attention_states is not None or output.encoder_outputs is not None:
        raise NeedsEncoder
    logits: mx.array = output.logits[:, -1, :]
    return logits


def begin(
    model: Any, tokens: list[int], media: MediaInputs | None, known: tuple[int, list[Any]] | None = None
) -> Prefill:
    """A prompt at its beginning, or with as many of its tokens `known` as are in that cache. The pictures behind those
    are encoded."""
    start, cache = known or (0, make_prompt_cache(model.language_model))
    ids, arrays = mx.array([tokens]), dict(media.arrays) if media is not None else {}
    unread = ids[:, start:]
    given = arrays if media is None or not start else unread_arrays(media, len(tokens), start)
    restore(model.language_model, dict.fromkeys(POSITION_STATE))
    pixels, rest = given.get("pixel_values"), {name: value for name, value in given.items() if name != "pixel_values"}
    features = model.get_input_embeddings(unread, pixels, mask=mx.ones_like(unread), **rest).to_dict()
    extras = rest | {name: value for name, value in features.items() if value is not None}
    embeddings = extras.pop("inputs_embeds")
    if start:
        extras = {name: for_all(name, value, unread.shape[1], len(tokens)) for name, value in extras.items()}
        whole = {name: value for name, value in arrays.items() if name != "pixel_values"}
        if not _prime_cached_prefix_rope_state(model, ids, mx.ones_like(ids), whole):
            raise CannotContinue
        extras |= {name: whole[name] for name in ("position_ids", "rope_deltas") if name in whole}
    mx.eval(embeddings)
    chunked = _chunked_prefill_enabled(
        model, input_ids=unread, inputs_embeds=embeddings, prompt_cache=cache, prefill_kwargs=extras
    )
    return Prefill(unread, embeddings, extras, cache, chunked, not start, saved(model.language_model))


def unread_arrays(media: MediaInputs, tokens: int, start: int) -> dict[str, Any]:
    """What the model takes beside the tokens from `start` on. Raises CannotContinue where that can't be told."""
    by_token = {k: v for k, v in media.arrays.items() if isinstance(v, mx.array) and is_aligned(k, v, tokens)}
    by_picture = {k: v for k, v in media.arrays.items() if k not in by_token}
    first = sum(1 for picture in media.places if picture.start < start)
    left = of_pictures(by_picture, media.count, first, media.count) if media.told_apart else None
    if left is None:
        raise CannotContinue
    return left | {name: cut_aligned(name, value, start) for name, value in by_token.items()}


def for_all(name: str, value: Any, unread: int, tokens: int) -> Any:
    """An extra for the unread tokens as one for all of them."""
    if isinstance(value, mx.array) and is_aligned(name, value, unread):
        return pad_aligned(name, value, tokens, left=True)
    return value


def saved(language_model: Any) -> dict[str, Any]:
    """The state of the prompt that was read last."""
    return {name: getattr(language_model, name) for name in POSITION_STATE if hasattr(language_model, name)}


def restore(language_model: Any, state: dict[str, Any]) -> None:
    """Have the language model continue another prompt."""
    for name, value in state.items():
        if hasattr(language_model, name):
            setattr(language_model, name, value)
