"""Inside types of models that draw."""

from __future__ import annotations

from typing import Literal

import msgspec

PictureFormat = Literal["png", "jpeg", "webp"]


class PictureRequest(msgspec.Struct, frozen=True, tag=True):
    """One ticket's work: `count` pictures of what a text says.

    `width` and `height` are in pixels; None, as `steps` (of denoising) and `guidance`: what suits the model. The
    picture with index i is drawn from the `seed` plus i. `partials` is how many unfinished pictures are shown on the
    way to each. `image` is the file of a picture to change, `mask` that of one which is transparent where it may
    change; both stay until the ticket has ended. `quality` in percent is for formats that lose some.
    """

    prompt: str
    seed: int
    count: int = 1
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    negative_prompt: str | None = None
    format: PictureFormat = "png"
    quality: int = 100
    partials: int = 0
    transparent: bool = False
    image: str | None = None
    mask: str | None = None

    @property
    def rows(self) -> int:
        """It takes one place; its pictures share their pass of the text encoder."""
        return 1
