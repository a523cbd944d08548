"""A workaround: ModernBERT's masks (mlx-vlm up to 0.7.10) are -1e9, which float16 takes for minus infinity.

Padding that sees nothing but padding becomes NaN then, and so does what attends to it.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

LEAST = -1e9
"""What the class hides with, where the dtype holds it."""


def with_finite_masks(model: Any) -> Any:
    """The model with masks that its dtype holds, and to which a score can be added."""
    make = model._masks

    def masks(attention_mask: mx.array, dtype: mx.Dtype) -> tuple[mx.array, ...]:
        hidden = max(LEAST, mx.finfo(dtype).min / 2)
        return tuple(mx.maximum(mask, hidden).astype(dtype) for mask in make(attention_mask, mx.float32))

    model._masks = masks
    return model
