"""Learned positions of patches, for pictures of any size, as transformers takes them from a square of them.

GLM-4V: by cubic convolution, in mlx-vlm's class linearly. Idefics 2: the one in whose part of the square a patch
begins; mlx-vlm's class has other borders for these parts. Muse Glimmer: counted along columns, as it was trained;
mlx-vlm's class counts along rows.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

CUBIC = ("glm4v", "glm4v_moe")
CUBIC_SQUARE = ("kimi_k25",)
NEAREST = ("idefics2",)
ALONG_COLUMNS = ("muse_glimmer",)
"""Types by how they do it."""

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


def places(coordinates: mx.array, extent: mx.array | int, side: int) -> mx.array:
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


class NearestPositions(nn.Module):  # type: ignore[misc]  # mlx.nn is untyped
    """Takes the place of the class's `embeddings`, and has its weights."""

    def __init__(self, embeddings: Any) -> None:
        super().__init__()
        self.patch_embedding, self.position_embedding = embeddings.patch_embedding, embeddings.position_embedding

    def __call__(self, pixels: mx.array, mask: mx.array) -> mx.array:
        """Patches [B, N, C] of pictures [B, H, W, 3], with positions. `mask` bool [B, rows, columns]: which of them a
        picture has."""
        side = round(self.position_embedding.weight.shape[0] ** 0.5)
        ids = [np.where(one, parts(one[:, 0], side)[:, None] * side + parts(one[0], side), 0) for one in np.array(mask)]
        positions = self.position_embedding(mx.array(np.stack(ids).reshape(len(ids), -1)))
        found: mx.array = positions + self.patch_embedding(pixels).flatten(1, 2)
        return found


def parts(there: np.ndarray, side: int) -> np.ndarray:
    """In which of `side` equal parts of a picture's rows, or columns, each of them begins: int [N], of bool [N] that
    says which there are."""
    begins = np.minimum(np.arange(len(there)) / max(there.sum(), 1), 1 - 1e-6)
    return np.asarray(np.digitize(begins, np.arange(1, side) / side))


class SquareOfPositions(nn.Module):  # type: ignore[misc]
    """Takes the place of the class's `pos_emb`, and has its weights [side, side, C]. Films stay as they are."""

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.weight, self._of_films = embedding.weight, embedding

    def __call__(self, patches: mx.array, grid: mx.array) -> mx.array:
        """Patches [N, C] with their positions; `grid` int [pictures, 2] are the rows and columns of each picture, or
        [films, 3] with the frames before them."""
        if grid.shape[-1] == 3:
            of_films: mx.array = self._of_films(patches, grid)
            return of_films
        side = self.weight.shape[0]
        table = self.weight.flatten(end_axis=1)
        found = []
        for high, wide in np.array(grid).tolist():
            rows, columns = (mx.array(one.ravel()) for one in np.indices((high, wide)))
            found.append(resampled(table, places(rows, high, side), places(columns, wide, side)))
        return patches + mx.concatenate(found).astype(patches.dtype)


class PositionsAlongColumns(nn.Module):  # type: ignore[misc]
    """Takes the place of the class's `patch_embedder`, and has its weights."""

    def __init__(self, embedder: Any) -> None:
        super().__init__()
        self.patch_embedding = embedder.patch_embedding
        self.position_embedding_table = embedder.position_embedding_table
        self._positions = type(embedder)._position_embeddings
        self.num_grid_per_side = embedder.num_grid_per_side

    def __call__(self, patches: mx.array, grid: list[list[int]]) -> mx.array:
        """Patches [N, C] with their positions; `grid` are the frames, rows and columns of each picture."""
        found: mx.array = self.patch_embedding(patches)
        turned = [[frames, wide, high] for frames, high, wide in grid]
        positions: mx.array = self._positions(self, turned)
        return found + positions.astype(found.dtype)


def with_patch_positions(model: Any, kind: str) -> None:
    """Have a model of such a type take its positions so."""
    if kind in CUBIC:
        tower = model.vision_tower
        tower.embeddings = PatchPositions(tower.embeddings.position_embedding)
    if kind in CUBIC_SQUARE:
        embedder = model.vision_tower.patch_embed
        embedder.pos_emb = SquareOfPositions(embedder.pos_emb)
    if kind in ALONG_COLUMNS:
        model.vision_tower.patch_embedder = PositionsAlongColumns(model.vision_tower.patch_embedder)
    if kind in NEAREST:
        model.vision_model.embeddings = NearestPositions(model.vision_model.embeddings)
