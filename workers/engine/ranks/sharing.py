"""Which part of a model a rank has."""

from __future__ import annotations

from typing import Any, Protocol

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlx_server.workers.errors import ModelLoadError, one_line

HEADS = ("num_attention_heads", "num_key_value_heads")


class Place(Protocol):
    """Which of how many ranks this is; a group knows that of itself."""

    def rank(self) -> int:
        """Counted from 0."""

    def size(self) -> int:
        """How many there are."""


def keep_part(model: Any, config: dict[str, Any], group: mx.distributed.Group) -> str:
    """Leave of a model, whose weights are unread, what this rank computes; what there is to say about it. Raises
    ModelLoadError."""
    size = group.size()
    if not divides_layers(model, config, size):
        keep_layers(model, group)
        return f"pipeline parallel: each of {size} ranks computes some of the layers"
    try:
        model.shard(group)
    except (ValueError, AssertionError) as error:
        raise not_spread(size, one_line(error)) from None
    return f"tensor parallel: each of {size} ranks computes a part of every layer"


def divides_layers(model: Any, config: dict[str, Any], size: int) -> bool:
    """Whether each of so many ranks has a part of every layer, where mlx-lm can do so and the heads come out even
    (tensor parallel), and not some of the layers (pipeline parallel). Raises ModelLoadError where neither can be."""
    heads = [count for name in HEADS if isinstance(count := config.get("text_config", config).get(name), int)]
    if hasattr(model, "shard") and all(count % size == 0 for count in heads):
        return True
    inner: Any = getattr(model, "model", None)
    if hasattr(inner, "pipeline") and len(inner.layers) >= size:
        return False
    if hasattr(model, "shard"):
        counts = " and ".join(map(str, dict.fromkeys(heads)))
        raise ModelLoadError(f"this model can't be spread over {size} ranks: its {counts} heads don't come out even")
    raise ModelLoadError(f"mlx-lm can't spread models of this type ({model.model_type}) over {size} ranks")


def keep_layers(model: Any, place: Place) -> None:
    """Leave a rank its layers. Raises ModelLoadError, also where rank 0, which decides for all what can be done to a
    cache, would not see every kind."""
    everywhere = kinds(model)
    try:
        model.model.pipeline(place)
    except (ValueError, AssertionError) as error:
        raise not_spread(place.size(), one_line(error)) from None
    if kinds(model) != everywhere:
        raise not_spread(place.size(), "its layers are of several kinds, and some rank would not have all of them")


def not_spread(size: int, why: str) -> ModelLoadError:
    """What to raise where a model can't be divided among so many."""
    return ModelLoadError(f"this model can't be spread over {size} ranks: {why}")


def kinds(model: Any) -> set[tuple[type, int | None]]:
    """The kinds of a model's caches, with the sizes of their windows."""
    return {(type(layer), getattr(layer, "max_size", None)) for layer in make_prompt_cache(model)}
