"""The first half of the training: an autoencoder that makes latents of pictures and pictures of latents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_vlm.models.z_image.vae import ZImageVAE
from shapes.draw import SIZE, Scene

NOISE = 0.1
"""The deviation of what is added to latents, so that like pictures have like ones."""

SIZE_WEIGHT = 1e-3
"""How much latents are kept from growing, which would make the noise small."""


def begin_simply(vae: ZImageVAE) -> None:
    """Have what is shown pass through from the first step on: blocks add nothing yet, and scaling only copies."""
    for name, layer in vae.named_modules():
        if name.endswith(("conv2", "to_out")):
            layer.weight = mx.zeros_like(layer.weight)
        elif isinstance(layer, nn.Conv2d) and layer.weight.shape[0] == layer.weight.shape[3]:
            layer.weight[:, 1, 1] += mx.eye(layer.weight.shape[0])


def pixels(scenes: Iterable[Scene], side: int = SIZE) -> mx.array:
    """Pictures as the autoencoder reads them: (pictures, side, side, 3) from -1 to 1."""
    return mx.array(np.stack([np.asarray(scene.image(side), np.float32) for scene in scenes]) / 127.5 - 1)


def picture_batches(scenes: Iterator[Scene], size: int, side: int) -> Iterator[mx.array]:
    """Endless batches of `size` pictures of `side` by `side` pixels."""
    while True:
        yield pixels(islice(scenes, size), side)


def loss(vae: ZImageVAE, batch: mx.array) -> mx.array:
    """How far pictures are from what becomes of them through noisy latents, squared, and how large the latents are."""
    latents = vae.encode(batch)
    noisy = latents + NOISE * mx.random.normal(latents.shape)
    return nn.losses.mse_loss(vae.decode(noisy), batch) + SIZE_WEIGHT * mx.mean(latents**2)


def encode(vae: ZImageVAE, scenes: list[Scene], size: int = 16) -> mx.array:
    """Latents of pictures, (pictures, rows / 8, columns / 8, channels), computed `size` at a time."""
    parts = []
    for start in range(0, len(scenes), size):
        parts.append(vae.encode(pixels(scenes[start : start + size])))
        mx.eval(parts[-1])
    return mx.concatenate(parts)
