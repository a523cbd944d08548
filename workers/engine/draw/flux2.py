"""FLUX.2 klein (Black Forest Labs): a Qwen3 text encoder, two streams that become one, and pictures as references.

The networks and the noise schedule are mlx-vlm's, and what is computed here is equal to its pipeline. A picture that is
to be changed is shown beside the one that is drawn, which begins with nothing but noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_vlm.models.flux2.config import Flux2Variant, variant_from_local_path
from mlx_vlm.models.flux2.constants import ModelConfig
from mlx_vlm.models.flux2.latent import (
    pack_latents,
    patchify_latents,
    prepare_grid_ids,
    prepare_packed_latents,
    unpack_latents,
)
from mlx_vlm.models.flux2.prompt import encode_prompt
from mlx_vlm.models.flux2.scheduler import FlowMatchEulerDiscreteScheduler
from mlx_vlm.models.flux2.tiling import TilingConfig
from mlx_vlm.models.flux2.tokenizer import Flux2Tokenizer
from mlx_vlm.models.flux2.weights import load_text_encoder, load_transformer, load_vae

from mlx_server.schemas.internal.messages import CpuDtype, Loading
from mlx_server.workers.engine.draw.networks import Network, Networks, read_networks
from mlx_server.workers.engine.draw.wish import MOST_TOKENS, PATCH, Defaults, Limits, Pixels, Wish, limits_of
from mlx_server.workers.engine.runtime import platform

LEAST_SIDE, USUAL_SIDE = 256, 1024
REFERENCE_TIME = 10
"""Where the first picture that is shown stands in time, for the rotary positions; what is drawn stands at 0."""

NO_PROMPT = " "
"""What stands for no prompt at all."""

Text = tuple[mx.array, mx.array]
"""What the text encoder makes of a prompt, [1, T, D], and where its tokens stand, [1, T, 4]."""


@dataclass(frozen=True)
class Flux2:
    """The loaded model: see `Family` for what each method says. Latents are [B, 128, 1 / 16 of H, 1 / 16 of W]."""

    variant: Flux2Variant
    tokenizer: Flux2Tokenizer
    text_encoder: Any
    transformer: Any
    vae: Any
    tokenizing: Lock = field(default_factory=Lock)
    """Two threads tokenise, and a tokenizer serves one at a time."""

    name = "flux2"

    @property
    def limits(self) -> Limits:
        """The distilled variants know no guidance; one was trained to look at pictures in a way of its own."""
        return limits_of(
            least_side=LEAST_SIDE,
            least_steps=1,
            guided=self.variant.default_guidance > 1,
            changes=self.variant.supports_edit and not self.variant.uses_reference_kv_cache,
            cpu=platform.on_cpu(),
        )

    @property
    def defaults(self) -> Defaults:
        """Those that mlx-vlm has for the variant."""
        return Defaults(USUAL_SIDE, USUAL_SIDE, self.variant.default_steps, self.variant.default_guidance)

    def prompt_ids(self, prompt: str) -> Sequence[int]:
        """As mlx-vlm has them, but for its padding."""
        tokenizer = self.tokenizer.tokenizer
        message = [{"role": "user", "content": prompt}]
        with self.tokenizing:
            text = tokenizer.apply_chat_template(
                message, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
            return list(tokenizer(text)["input_ids"])

    def picture_tokens(self, width: int, height: int) -> int:
        """Patches."""
        return width * height // PATCH**2

    def read_prompt(self, prompt: str) -> Text:
        """The states of three layers side by side, [1, T, D], padding included, which this model was trained with."""
        with self.tokenizing:  # what is computed is only planned there
            embeds, ids = encode_prompt(
                prompt=prompt or NO_PROMPT,
                tokenizer=self.tokenizer,
                text_encoder=self.text_encoder,
                max_sequence_length=MOST_TOKENS,
            )
        mx.eval(embeds, ids)
        return embeds, ids

    def noise_levels(self, wish: Wish) -> Sequence[float]:
        """Larger pictures stay longer at high levels."""
        tokens = self.picture_tokens(wish.width, wish.height)
        scheduler = FlowMatchEulerDiscreteScheduler(image_seq_len=tokens, num_inference_steps=wish.steps)
        return [float(level) for level in np.array(scheduler.sigmas)]

    def noise(self, seed: int, width: int, height: int) -> mx.array:
        """As mlx-vlm draws it from a seed: [1, 128, 1 / 16 of H, 1 / 16 of W]."""
        packed, _, down, across = prepare_packed_latents(seed=seed, height=height, width=width)
        noise: mx.array = unpack_latents(packed, latent_height=down, latent_width=across)
        return noise

    def direction(
        self,
        latents: mx.array,
        level: float,
        text: Text,
        shown: mx.array | None,
        negative: Text | None,
        guidance: float,
    ) -> mx.array:
        """One pass of the transformer over latents [B, ...] and what is shown, two with guidance; as many latents come
        back."""
        count, _, down, across = latents.shape
        states, places = pack_latents(latents), prepare_grid_ids(latents, t_coord=0)
        if shown is not None:
            beside, there = pack_latents(shown), prepare_grid_ids(shown, t_coord=REFERENCE_TIME)
            states = mx.concatenate([states, repeated(beside, count)], axis=1)
            places = mx.concatenate([places, repeated(there, count)], axis=1)

        def noise_for(read: Text) -> mx.array:
            embeds, ids = (repeated(each, count) for each in read)
            found: mx.array = self.transformer(
                hidden_states=states,
                encoder_hidden_states=embeds,
                timestep=mx.array(1000 * level),
                img_ids=places,
                txt_ids=ids,
            )
            return found[:, : down * across]

        noise = noise_for(text)
        if negative is not None:
            without = noise_for(negative)
            noise = without + guidance * (noise - without)
        unpacked: mx.array = unpack_latents(noise, latent_height=down, latent_width=across)
        return unpacked

    def encode(self, pixels: Pixels) -> mx.array:
        """The middle of what the autoencoder says that pixels [H, W, 3] may be, normalised: [1, ...]."""
        picture = mx.array(pixels.transpose(2, 0, 1)[None].astype(np.float32)) / 127.5 - 1
        latents: mx.array = patchify_latents(self.vae.encode(picture))
        statistics = self.vae.bn
        mean, variance = (each.reshape(1, -1, 1, 1) for each in (statistics.running_mean, statistics.running_var))
        normal: mx.array = (latents - mean) / mx.sqrt(variance + statistics.eps)
        return normal

    def decode(self, latents: mx.array) -> mx.array:
        """Pixels [B, H, W, 3] of latents [B, ...], from -1 .. 1 to 0 .. 255; large ones in tiles, as mlx-vlm does."""
        tiling = TilingConfig()
        is_large = PATCH * max(latents.shape[-2:]) >= 2 * tiling.vae_decode_tile_size
        decoded: mx.array = self.vae.decode_packed_latents(latents, tiling_config=tiling if is_large else None)
        scaled = mx.clip(decoded / 2 + 0.5, 0, 1).transpose(0, 2, 3, 1).astype(mx.float32)
        pixels: mx.array = mx.round(scaled * 255).astype(mx.uint8)
        return pixels


def repeated(array: mx.array, count: int) -> mx.array:
    """An array [1, ...] as [count, ...]."""
    return mx.broadcast_to(array, (count, *array.shape[1:]))


def load_flux2(folder: Path, cpu_dtype: CpuDtype, report: Callable[[Loading], None]) -> tuple[Flux2, Networks]:
    """The model of a folder in Diffusers' layout, and what it was made of. Raises anything."""
    variant = variant_from_local_path(folder)
    if platform.on_cpu() and cpu_dtype != "native":
        ModelConfig.precision = mx.float32  # the library's networks cast what they compute to it
    networks = {
        "text_encoder": Network(partial(load_text_encoder, variant=variant), text_encoder_names),
        "transformer": Network(partial(load_transformer, variant=variant), transformer_names),
        "vae": Network(partial(load_vae, include_encoder=True), vae_names),
    }
    read = read_networks(folder, networks, cpu_dtype, report)
    return Flux2(variant, Flux2Tokenizer(folder), **read.parts), read


def text_encoder_names(names: Iterable[str]) -> set[str]:
    """As mlx-vlm calls the text encoder's weights."""
    return {name.removeprefix("model.") for name in names}


def transformer_names(names: Iterable[str]) -> set[str]:
    """As mlx-vlm calls the transformer's weights."""
    embedding = "time_guidance_embed."
    return {
        name.replace(f"{embedding}timestep_embedder.", embedding).replace(".to_out.0.", ".to_out.") for name in names
    }


def vae_names(names: Iterable[str]) -> set[str]:
    """As mlx-vlm calls the autoencoder's weights."""
    return {name.replace(".to_out.0.", ".to_out.") for name in names}
