"""What an architecture that draws has to say of itself. One class for each implements it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import mlx.core as mx

from mlx_server.workers.engine.draw.wish import Defaults, Limits, Pixels


class Family(Protocol):
    """A loaded model that goes from noise to a picture in steps, along straight paths (flow matching)."""

    @property
    def name(self) -> str:
        """What the library calls the architecture."""

    @property
    def limits(self) -> Limits:
        """What it can be asked for."""

    @property
    def defaults(self) -> Defaults:
        """What it does where nothing is said."""

    def prompt_ids(self, prompt: str) -> Sequence[int]:
        """A prompt's tokens, with the template. May be called on any thread."""

    def picture_tokens(self, width: int, height: int) -> int:
        """How many tokens a picture is for the model."""

    def read_prompt(self, prompt: str) -> mx.array:
        """What the text encoder makes of it, [1, T, D]; at most `limits.most_prompt_tokens` of it are read."""

    def noise_levels(self, steps: int, strength: float | None) -> Sequence[float]:
        """The noise's share before each step, and 0 in the end; there is one step at least.

        `strength` is how much of a given picture changes, from 0 to 1: the less, the later it begins. None for a new
        picture."""

    def noise(self, seed: int, width: int, height: int) -> mx.array:
        """The noise that a picture begins with, [1, ...]: the same for the same seed."""

    def direction(self, latents: mx.array, level: float, text: mx.array, negative: Any, guidance: float) -> mx.array:
        """Where noise lies from the picture, [B, ...], as seen from latents [B, ...] with so much noise; `text` and
        `negative` are read prompts [1, T, D], `negative` None without guidance."""

    def encode(self, pixels: Pixels) -> mx.array:
        """Latents [1, ...] of a picture's pixels, uint8 [H, W, 3]."""

    def decode(self, latents: mx.array) -> mx.array:
        """Pixels, uint8 [B, H, W, 3], of latents without noise."""
