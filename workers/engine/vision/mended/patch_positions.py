"""GLM-4V's learned positions of patches, for pictures of any size: mlx-vlm takes them from a square of them linearly,
transformers by cubic convolution."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

TYPES = ("glm4v", "glm4v_moe")

SHARPNESS = -0.75
"""The free coefficient of cubic convolution (Keys, 1981), as torch has it."""

NEIGHBOURS = (-1, 0, 1, 2)


class PatchPositions(nn.Module):  # type: ignore[misc]  # mlx.nn is untyped
    """Takes the place of the class's `embeddings`, and has its weights."""

    def __init__(self, position_embedding: nn.Embedding) -> None:
        super().__init__()
        self.position_embedding = position_embedding

    def __call__(
        self, patches: mx.array, lengths: list[int], sizes: mx.array, rows: mx.array, columns: mx.array
    ) -> mx.array:
        """Patches [N, C] with their positions added. `sizes` [pictures, 3] are the frames of each picture, and the rows
        and columns of patches in each; `rows` and `columns` [N] say where in its frame a patch is."""
        table = self.position_embedding.weight
        side = round(table.shape[0] ** 0.5)
        frames = [(high, wide) for count, high, wide in np.array(sizes).tolist() for _ in range(count)]
        high, wide = mx.array(np.repeat(frames, [high * wide for high, wide in frames], axis=0).T)
        found = resampled(table, places(rows, high, side), places(columns, wide, side))
        return patches + found.astype(table.dtype)


def places(coordinates: mx.array, extent: mx.array, side: int) -> mx.array:
    """Where in a row of `side` positions the middles of patches are, of which a picture has `extent` [N] in a row:
    float32 [N]."""
    return (coordinates.astype(mx.float32) + 0.5) / extent * side - 0.5


def resampled(table: mx.array, y: mx.array, x: mx.array) -> mx.array:
    """The values float32 [N, C] of a square [side * side, C] at these places [N]; beyond its border it goes on as it
    ends."""
    side = round(table.shape[0] ** 0.5)
    table = table.astype(mx.float32)
    top, left = mx.floor(y), mx.floor(x)
    found = mx.zeros((y.shape[0], table.shape[1]), mx.float32)
    for down in NEIGHBOURS:
        row = mx.clip(top + down, 0, side - 1).astype(mx.int32)
        for right in NEIGHBOURS:
            column = mx.clip(left + right, 0, side - 1).astype(mx.int32)
            weight = share(y - top - down) * share(x - left - right)
            found = found + weight[:, None] * table[row * side + column]
    return found


def share(distance: mx.array) -> mx.array:
    """How much neighbours [N] at these distances, at most 2, count."""
    d = mx.abs(distance)
    near = ((SHARPNESS + 2) * d - (SHARPNESS + 3)) * d * d + 1
    far = SHARPNESS * (((d - 5) * d + 8) * d - 4)
    return mx.where(d <= 1, near, far)


def with_patch_positions(model: Any, kind: str) -> None:
    """Have a model of such a type take its positions so."""
    if kind in TYPES:
        tower = model.vision_tower
        tower.embeddings = PatchPositions(tower.embeddings.position_embedding)
