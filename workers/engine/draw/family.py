"""What an architecture that draws has to say of itself. One class for each implements it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import mlx.core as mx

from mlx_server.workers.engine.draw.wish import Defaults, Limits, Pixels, Wish


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

    def read_prompt(self, prompt: str) -> Any:
        """What the text encoder makes of it, evaluated; at most `limits.most_prompt_tokens` of it are read."""

    def noise_levels(self, wish: Wish) -> Sequence[float]:
        """The noise's share before each step, and 0 in the end; there is one step at least. What begins with a given
        picture may begin with less than 1."""

    def noise(self, seed: int, width: int, height: int) -> mx.array:
        """The noise that a picture begins with, [1, ...]: the same for the same seed."""

    def direction(
        self, latents: mx.array, level: float, text: Any, shown: mx.array | None, negative: Any, guidance: float
    ) -> mx.array:
        """Where noise lies from the picture, [B, ...], as seen from latents [B, ...] with so much noise.

        `text` and `negative` are read prompts, `negative` None without guidance. `shown` are the latents [1, ...] of a
        picture that is to be changed, for families that look at it while they draw.
        """

    def encode(self, pixels: Pixels) -> mx.array:
        """Latents [1, ...] of a picture's pixels, uint8 [H, W, 3]."""

    def decode(self, latents: mx.array) -> mx.array:
        """Pixels, uint8 [B, H, W, 3], of latents [B, ...] without noise."""
