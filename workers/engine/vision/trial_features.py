"""Whether the features of pictures are the same with a memory before the encoder: tried when a model is loaded."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.engine.vision.features import RememberingTower, forget, remember
from mlx_server.workers.engine.vision.prefill import begin

FEATURE_TOLERANCE = {mx.float32: 1e-3}
LOW_PRECISION_FEATURE_TOLERANCE = 0.05
"""How far features may be off, as a share of the largest."""


def try_remembering(model: Any, sequence: Sequence, limit_bytes: int) -> tuple[RememberingTower | None, list[str]]:
    """A memory before the model's encoder, if the features are the same with it, and what there is to say."""
    if sequence.media is None or not limit_bytes:
        return None, []
    plain = features(model, sequence)
    tower = remember(model, limit_bytes)
    if tower is None:
        return None, ["features of pictures are not kept: no encoder was found"]
    for separately in (True, False):
        tower.start_over(separately=separately)
        if is_transparent(model, tower, sequence, plain):
            tower.start_over(separately=separately, together=separately)
            together = separately and is_transparent(model, tower, sequence, plain)
            tower.start_over(separately=separately, together=together)
            return tower, [] if separately else ["features of pictures are kept for those that come together"]
    forget(model, tower)
    return None, ["features of pictures are not kept: they would differ"]


def is_transparent(model: Any, tower: RememberingTower, sequence: Sequence, plain: list[mx.array]) -> bool:
    """Whether a prompt's features stay equal to `plain` (as `features` gives them: [1, T, D] first) with the tower in
    the encoder's place, both when they are computed and when they are remembered."""
    assert sequence.media is not None
    try:
        computed = same(plain, features(model, sequence))
        tower.counted(0)
        remembered = same(plain, features(model, sequence))
    except Exception:  # noqa: BLE001 - an encoder that is called otherwise than it expects may raise anything
        return False
    return computed and remembered and tower.counted(sequence.media.count) == (0, sequence.media.count)


def features(model: Any, sequence: Sequence) -> list[mx.array]:
    """The embeddings [1, T, D] of a prompt with pictures, then its extras [...] of any dtype: all that the language
    model reads."""
    prefill = begin(model, sequence.prompt, sequence.media)
    return [leaf for _, leaf in tree_flatten([prefill.embeddings, prefill.extras]) if isinstance(leaf, mx.array)]


def same(expected: list[mx.array], others: list[mx.array]) -> bool:
    """Whether two lists of arrays [...] have equal shapes and, up to rounding, equal numbers."""
    if [array.shape for array in expected] != [array.shape for array in others]:
        return False
    return all(is_close(*pair) for pair in zip(expected, others, strict=True))


def is_close(expected: mx.array, other: mx.array) -> bool:
    """Whether two arrays [...] of one shape are equal up to rounding, as a share of the largest absolute value. In
    float32."""
    tolerance = FEATURE_TOLERANCE.get(expected.dtype, LOW_PRECISION_FEATURE_TOLERANCE)
    a, b = expected.astype(mx.float32), other.astype(mx.float32)
    return bool((mx.abs(a - b).max() <= tolerance * mx.maximum(mx.abs(a).max(), 1e-6)).item())
