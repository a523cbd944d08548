"""Prompts that are read to their ends in one pass, padded on the left, as mlx-vlm's own batches read them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_vlm.generate.ar import _concat_prompt_kwarg_rows as aligned_rows
from mlx_vlm.generate.ar import _is_sequence_aligned_prompt_kwarg as is_aligned
from mlx_vlm.generate.ar import _left_pad_prompts as left_padded
from mlx_vlm.generate.ar import _make_cache as batch_cache
from mlx_vlm.generate.ar import _pad_sequence_aligned_prompt_kwarg as pad_aligned

from mlx_server.workers.engine.vision.per_image import concatenated
from mlx_server.workers.engine.vision.prefill import POSITION_STATE, Prefill, next_logits, restore


@dataclass(slots=True)
class Joinable:
    """The kinds of prompts that are read together; while a model is tried, all, and these are noted."""

    kinds: set[Hashable] = field(default_factory=set)
    tries: bool = False

    def kind(self, prefill: Prefill) -> Hashable | None:
        """The kind of a prompt that may be read together with others of it; None if it may not."""
        has_positions = not prefill.positions or prefill.extras.get("rope_deltas") is not None
        if not (prefill.untouched and prefill.chunked and has_positions):
            return None
        kind = kind_of(prefill)
        return kind if self.tries or kind in self.kinds else None

    def joined(self, prefill: Prefill) -> None:
        """Note the kind of prompts that were read together."""
        self.kinds.add(kind_of(prefill))


def kind_of(prefill: Prefill) -> Hashable:
    """What prompts have in common that can be read together: by name, what the language model takes beside them."""
    leaves = tree_flatten(prefill.extras)
    return tuple(sorted((name, str(getattr(leaf, "dtype", leaf)), getattr(leaf, "ndim", 0)) for name, leaf in leaves))


def finish_together(model: Any, prefills: list[Prefill]) -> tuple[list[Any], mx.array]:
    """Read untouched prompts of one kind; their batch's cache, and the logits [B, V] of their next tokens. Raises
    NeedsEncoder."""
    lengths = [prefill.left for prefill in prefills]
    longest = max(lengths)
    embeddings = [mx.pad(one.embeddings, [(0, 0), (longest - one.left, 0), (0, 0)]) for one in prefills]
    extras = {name: extra_of_all(name, [one.extras[name] for one in prefills], lengths) for name in prefills[0].extras}
    cache: list[Any] = batch_cache(model.language_model, [longest - length for length in lengths])
    restore(model.language_model, dict.fromkeys(POSITION_STATE))
    output = model.language_model(
        left_padded([prefill.ids[0].tolist() for prefill in prefills]),
        inputs_embeds=mx.concatenate(embeddings),
        cache=cache,
        logits_to_keep=1,
        **extras,
    )
    return cache, next_logits(output)


def extra_of_all(name: str, values: list[Any], lengths: list[int]) -> Any:
    """An extra of each prompt as one for all of them: by token, or by picture."""
    if all(isinstance(own, mx.array) and is_aligned(name, own, n) for own, n in zip(values, lengths, strict=True)):
        return aligned_rows(name, [pad_aligned(name, own, max(lengths), left=True) for own in values])
    return concatenated(values)
