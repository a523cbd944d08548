"""Z-Image (Tongyi-MAI): a Qwen3 text encoder, one stream of text and picture in the transformer, FLUX's autoencoder.

The networks and the noise schedule are mlx-vlm's; its pipeline runs all steps in one call, and can't be left between
two. What is computed here is equal to it, except that prompts are read without padding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_vlm.models.mage_flow.scheduler import FlowMatchEulerDiscreteScheduler
from mlx_vlm.models.z_image.config import ZImageConfig
from mlx_vlm.models.z_image.text_encoder import sanitize_text_encoder_weights
from mlx_vlm.models.z_image.transformer import sanitize_transformer_weights
from mlx_vlm.models.z_image.vae import sanitize_vae_weights
from mlx_vlm.models.z_image.weights import load_text_encoder, load_transformer, load_vae
from transformers import AutoTokenizer

from mlx_server.schemas.internal.messages import CpuDtype, Loading
from mlx_server.workers.engine.draw.networks import Network, Networks, read_networks
from mlx_server.workers.engine.draw.wish import MOST_TOKENS, PATCH, Defaults, Limits, Pixels, Wish, limits_of
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.folders.model_files import read_json

PIXELS_PER_LATENT = 8
SAMPLE_SIZE = 1024
"""The pictures' sides that the published models were trained with; `sample_size` of the autoencoder names others."""

WITHOUT_MASK = 0.6
"""How much of a picture changes, as in mlx-vlm: what it shows stays where it is."""

WITHIN_MASK = 1.0
"""Nothing of what was there is kept where the mask lets it change."""


@dataclass(frozen=True)
class ZImage:
    """The loaded model: see `Family` for what each method says."""

    config: ZImageConfig
    tokenizer: Any
    text_encoder: Any
    transformer: Any
    vae: Any
    sample_size: int
    tokenizing: Lock = field(default_factory=Lock)
    """Two threads tokenise, and a tokenizer serves one at a time."""

    name = "z_image"

    @property
    def limits(self) -> Limits:
        """Its distilled variant, Turbo, knows no guidance."""
        guided = self.config.variant != "turbo"
        return limits_of(least_side=4 * PATCH, least_steps=2, guided=guided, cpu=platform.on_cpu())

    @property
    def defaults(self) -> Defaults:
        """Those that mlx-vlm has for the variant."""
        side = self.sample_size
        return Defaults(side, side, self.config.default_steps, self.config.default_guidance)

    def prompt_ids(self, prompt: str) -> Sequence[int]:
        """As mlx-vlm has them, but for its padding."""
        message = [{"role": "user", "content": prompt}]
        with self.tokenizing:
            text = self.tokenizer.apply_chat_template(
                message, tokenize=False, add_generation_prompt=True, enable_thinking=True
            )
            return list(self.tokenizer(text)["input_ids"])

    def picture_tokens(self, width: int, height: int) -> int:
        """Patches."""
        return width * height // PATCH**2

    def read_prompt(self, prompt: str) -> mx.array:
        """The states [1, T, D] of the text encoder's last layer but one."""
        ids = mx.array([self.prompt_ids(prompt)[:MOST_TOKENS]])
        states: mx.array = self.text_encoder(ids, output_penultimate=True)
        mx.eval(states)
        return states

    def noise_levels(self, wish: Wish) -> Sequence[float]:
        """N steps are N - 1 passes of the transformer for a new picture, as in the published pipeline, and at most N
        for one that is changed: the first are left out, so that it begins with a part of the noise."""
        passes, skipped = wish.steps - 1, 0
        if wish.source is not None:
            passes = wish.steps
            strength = WITHOUT_MASK if wish.source.mask is None else WITHIN_MASK
            skipped = min(int(passes - passes * strength), passes - 1)
        levels = FlowMatchEulerDiscreteScheduler(num_inference_steps=passes, shift=self.config.scheduler_shift).sigmas
        return [float(level) for level in np.array(levels)[skipped:]]

    def noise(self, seed: int, width: int, height: int) -> mx.array:
        """As mlx-vlm draws it from a seed: [1, channels, 1, H / 8, W / 8]."""
        shape = (1, self.config.vae.latent_channels, 1, height // PIXELS_PER_LATENT, width // PIXELS_PER_LATENT)
        return mx.random.normal(shape, key=mx.random.key(seed))

    def direction(
        self,
        latents: mx.array,
        level: float,
        text: mx.array,
        shown: mx.array | None,
        negative: mx.array | None,
        guidance: float,
    ) -> mx.array:
        """One pass of the transformer over latents [B, ...], two with guidance; as many come back. It begins with the
        picture that is to be changed, and does not look at it again."""
        time = mx.array([1.0 - level])
        towards: mx.array = self.transformer(latents, time, text)
        if negative is not None:
            towards = towards + guidance * (towards - self.transformer(latents, time, negative))
        return -towards

    def encode(self, pixels: Pixels) -> mx.array:
        """The middle of what the autoencoder says that pixels [H, W, 3] may be: [1, ...]."""
        latents: mx.array = self.vae.encode(mx.array(pixels[None].astype(np.float32)) / 127.5 - 1)
        latents = (latents - self.config.vae.shift_factor) * self.config.vae.scaling_factor
        return latents.transpose(0, 3, 1, 2)[:, :, None]

    def decode(self, latents: mx.array) -> mx.array:
        """Pixels [B, H, W, 3] of latents [B, ...], from -1 .. 1 to 0 .. 255."""
        scaled = latents.squeeze(2).transpose(0, 2, 3, 1) / self.config.vae.scaling_factor
        decoded = self.vae.decode(scaled + self.config.vae.shift_factor)
        return mx.round(mx.clip(decoded / 2 + 0.5, 0, 1) * 255).astype(mx.uint8)


def load_z_image(folder: Path, cpu_dtype: CpuDtype, report: Callable[[Loading], None]) -> tuple[ZImage, Networks]:
    """The model of a folder in Diffusers' layout, and what it was made of. Raises anything."""
    config = ZImageConfig.from_model_path(folder)
    networks = {
        "text_encoder": Network(partial(load_text_encoder, config=config), names_by(sanitize_text_encoder_weights)),
        "transformer": Network(partial(load_transformer, config=config), names_by(sanitize_transformer_weights)),
        "vae": Network(partial(load_vae, config=config), names_by(partial(sanitize_vae_weights, source_layout=False))),
    }
    read = read_networks(folder, networks, cpu_dtype, report)
    tokenizer = AutoTokenizer.from_pretrained(str(folder / "tokenizer"), local_files_only=True, trust_remote_code=False)
    sample_size = read_json(folder / "vae", "config.json").get("sample_size", SAMPLE_SIZE)
    return ZImage(config, tokenizer, **read.parts, sample_size=int(sample_size)), read


def names_by(sanitize: Callable[..., dict[str, Any]]) -> Callable[[Iterable[str]], Collection[str]]:
    """The names that one of mlx-vlm's functions gives to weights."""
    return lambda names: sanitize(dict.fromkeys(names)).keys()
