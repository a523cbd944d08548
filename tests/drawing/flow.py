"""The second half of the training: a transformer that finds the way from noise to the latents of what a prompt says."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import mlx.core as mx
import mlx.nn as nn
from drawing.autoencoder import encode
from drawing.folder import CHAT_TEMPLATE, TURBO_SHIFT, Parts
from drawing.scenes import draw_scenes, trained_prompts
from jinja2 import Template
from shapes.draw import Scene, Shape
from tokenizers import Tokenizer

UNPROMPTED = 0.1
"""The share of batches without a prompt: what guidance compares with."""


@dataclass(frozen=True)
class Latents:
    """Scenes with one shape and what the autoencoder makes of them, scaled: (scenes, 16, 1, rows / 8, columns / 8)."""

    shapes: list[Shape]
    values: mx.array


@dataclass(frozen=True)
class Batch:
    """`prompts` are token ids, (B, L), all of one length; `latents` (B, 16, 1, rows, columns)."""

    prompts: mx.array
    latents: mx.array


class Denoiser(nn.Module):
    """What is trained together: the text encoder and the transformer."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.text_encoder = parts.text_encoder
        self.transformer = parts.transformer


def make_latents(parts: Parts, scenes: list[Scene]) -> tuple[Parts, Latents]:
    """Encode scenes once and for all; the parts come back with what their latents measure."""
    latents = encode(parts.vae, scenes)
    parts = parts.measured(latents)
    values = parts.normal(latents).transpose(0, 3, 1, 2)[:, :, None]
    mx.eval(values)
    return parts, Latents([scene.shapes[0] for scene in scenes], values)


def random_scenes(rnd: random.Random, count: int) -> list[Scene]:
    """Scenes of the training mix."""
    return list(islice(draw_scenes(rnd), count))


def make_batches(rnd: random.Random, tokenizer: Tokenizer, latents: Latents, size: int) -> Iterator[Batch]:
    """Endless batches of `size` pictures with a prompt of each; prompts of one length come together."""
    by_length: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
    for index, shape in enumerate(latents.shapes):
        for prompt in trained_prompts(shape):
            ids = tokenizer.encode(rendered(prompt), add_special_tokens=False).ids
            by_length[len(ids)].append((index, ids))
    nothing = tokenizer.encode(rendered(""), add_special_tokens=False).ids
    pools = list(by_length.values())
    while True:
        [pool] = rnd.choices(pools, [len(each) for each in pools])
        drawn = rnd.choices(pool, k=size)
        unprompted = rnd.random() < UNPROMPTED
        prompts = [nothing if unprompted else ids for _, ids in drawn]
        yield Batch(mx.array(prompts), latents.values[mx.array([index for index, _ in drawn])])


def rendered(prompt: str) -> str:
    """A prompt in the chat template."""
    message = {"role": "user", "content": prompt}
    return Template(CHAT_TEMPLATE).render(messages=[message], add_generation_prompt=True)


def loss(model: Denoiser, batch: Batch) -> mx.array:
    """Mean squared error of the direction from noise to picture, at random noise levels.

    Source: Lipman et al., "Flow Matching for Generative Modeling", with straight paths; the levels are shifted
    towards noise as those of drawing are (Esser et al., "Scaling Rectified Flow Transformers", section 5.3.2).
    """
    count = batch.latents.shape[0]
    level = mx.random.uniform(shape=(count,))
    level = TURBO_SHIFT * level / (1 + (TURBO_SHIFT - 1) * level)
    noise = mx.random.normal(batch.latents.shape)
    share = level.reshape(count, 1, 1, 1, 1)
    noisy = share * noise + (1 - share) * batch.latents
    features = model.text_encoder(batch.prompts, output_penultimate=True)
    # The transformer is told how far the picture has come: 0 is noise.
    return nn.losses.mse_loss(model.transformer(noisy, 1 - level, features), batch.latents - noise)
