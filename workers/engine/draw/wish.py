"""What is to be drawn, with everything settled, and what a family allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.picture import PictureRequest

SEEDS = 2**64
"""How many there are; after the last comes 0."""

PATCH = 16
"""Pixels to a side of what a transformer takes as one token."""

MOST_TOKENS = 512
"""Of a prompt with its template."""

MOST_SIDE = 2048
MOST_STEPS = 200

Pixels = npt.NDArray[np.uint8]
"""A picture in RGB, uint8 [H, W, 3]."""

Mask = npt.NDArray[np.bool_]
"""Where a picture may change, bool [H, W]."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model can be asked for; bounds are included, sides are in pixels and multiples of `multiple`.

    `guided`: it knows guidance, and with it negative prompts. `changes`: it changes pictures, too.
    """

    multiple: int
    least_side: int
    most_side: int
    most_pixels: int
    least_steps: int
    most_steps: int
    most_prompt_tokens: int
    guided: bool
    changes: bool = True
    most_guidance: float = 20.0


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a model does where nothing is said; `width` and `height` are in pixels."""

    width: int
    height: int
    steps: int
    guidance: float


@dataclass(frozen=True, slots=True)
class Source:
    """A picture to change, of the size that is drawn. Where `mask` is, only what it shows is changed."""

    pixels: Pixels
    mask: Mask | None = None


CPU_PIXELS = 1280 * 1280
"""A CPU computes the decoder's attention over all latents as one array: 2.6 GB for a picture of so many pixels."""

SCORES = 1 << 32
"""Of attention, queries times keys: with so many MLX 0.32 was seen to end its process on a CPU."""


def most_pixels(most_side: int, *, cpu: bool) -> int:
    """Of one picture. Attention over latents, one for 64 pixels, stays below SCORES everywhere."""
    bound = 64 * int(SCORES**0.5) - 1
    return min(most_side * most_side, CPU_PIXELS if cpu else bound)


def limits_of(*, least_side: int, least_steps: int, guided: bool, changes: bool = True, cpu: bool) -> Limits:
    """What models have in common whose tokens of a picture are PATCH squared and whose encoder reads MOST_TOKENS."""
    pixels = most_pixels(MOST_SIDE, cpu=cpu)
    return Limits(PATCH, least_side, MOST_SIDE, pixels, least_steps, MOST_STEPS, MOST_TOKENS, guided, changes)


@dataclass(frozen=True, slots=True)
class Wish:
    """Pictures to draw, one for each seed; `negative_prompt` says what they shall not show, and has no effect without
    guidance."""

    prompt: str
    seeds: tuple[int, ...]
    width: int
    height: int
    steps: int
    guidance: float
    negative_prompt: str = ""
    source: Source | None = None


def settle(request: PictureRequest, limits: Limits, defaults: Defaults) -> Wish:
    """A request for new pictures with the model's defaults. Raises InvalidRequest for what the model does not allow."""
    width = defaults.width if request.width is None else request.width
    height = defaults.height if request.height is None else request.height
    check_size(width, height, limits)
    steps = defaults.steps if request.steps is None else request.steps
    if not limits.least_steps <= steps <= limits.most_steps:
        raise InvalidRequest(
            f"`steps` must be from {limits.least_steps} to {limits.most_steps} with this model, not {steps}.", "steps"
        )
    guidance = defaults.guidance if request.guidance is None else request.guidance
    check_guidance(guidance, request.negative_prompt, limits)
    return Wish(
        prompt=request.prompt,
        seeds=tuple((request.seed + index) % SEEDS for index in range(request.count)),
        width=width,
        height=height,
        steps=steps,
        guidance=guidance,
        negative_prompt=request.negative_prompt or "",
    )


def size_like(width: int, height: int, limits: Limits) -> tuple[int, int]:
    """The largest size in which the model can draw a picture of `width` by `height` pixels, but for a rim: no larger
    than the picture, unless that is smaller than any that the model draws."""
    shrink = min(1.0, limits.most_side / max(width, height), (limits.most_pixels / (width * height)) ** 0.5)
    sides = (int(side * shrink) // limits.multiple * limits.multiple for side in (width, height))
    across, down = (max(limits.least_side, side) for side in sides)
    return across, down


def check_size(width: int, height: int, limits: Limits) -> None:
    """Refuse what the model can't draw. Raises InvalidRequest."""
    for side in (width, height):
        if side % limits.multiple or not limits.least_side <= side <= limits.most_side:
            raise InvalidRequest(
                f"`size` must have sides from {limits.least_side} to {limits.most_side} pixels with this model, in"
                f" multiples of {limits.multiple}; {width}x{height} has not.",
                "size",
            )
    if width * height > limits.most_pixels:
        raise InvalidRequest(
            f"`size` must be at most {limits.most_pixels} pixels in all with this model; {width}x{height} is"
            f" {width * height}.",
            "size",
        )


def check_guidance(guidance: float, negative_prompt: str | None, limits: Limits) -> None:
    """Refuse guidance, and what needs it, where the model has none. Raises InvalidRequest."""
    if not limits.guided:
        if guidance > 1:
            raise InvalidRequest(
                f"`guidance` must be from 0 to 1 with this model, which was trained to draw without; not {guidance:g}.",
                "guidance",
            )
        if negative_prompt is not None:
            raise InvalidRequest(
                "`negative_prompt` has no effect with this model, which draws without guidance: leave it out.",
                "negative_prompt",
            )
        return
    if not 0 <= guidance <= limits.most_guidance:
        raise InvalidRequest(
            f"`guidance` must be from 0 to {limits.most_guidance:g} with this model, not {guidance:g}.", "guidance"
        )
    if negative_prompt is not None and guidance <= 1:
        raise InvalidRequest(
            f"`negative_prompt` needs a `guidance` above 1, and it is {guidance:g}: leave it out, or guide more.",
            "negative_prompt",
        )
