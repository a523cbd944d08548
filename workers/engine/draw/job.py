"""One request's pictures, drawn a step at a time, so that several requests take turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import mlx.core as mx
import numpy as np

from mlx_server.workers.engine.draw.family import Family
from mlx_server.workers.engine.draw.wish import Mask, Pixels, Source, Wish

TOGETHER_PIXELS = 4 << 20
"""Pictures of so many pixels in all are drawn together; the others come after them."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How many steps of how many are done, over all pictures."""

    step: int
    total: int


@dataclass(frozen=True, slots=True)
class Partial:
    """The picture with this index as it would be if all noise were taken away at once; `number` counts those of each
    picture from 0."""

    index: int
    number: int
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Picture:
    """The finished picture with this index."""

    index: int
    pixels: Pixels


Drawn = Progress | Partial | Picture


class DrawingJob:
    """Draws what is wished for. Engine thread only.

    The first `advance` reads the prompt, each further one takes a denoising step for the pictures that are drawn
    together or decodes one picture, and the last brings the last picture. A job that is dropped holds nothing.
    """

    def __init__(self, family: Family, wish: Wish, partials: int = 0) -> None:
        self._family = family
        self._wish = wish
        self._partials = partials
        self.total_steps = 0
        """How many there are, known after the first `advance`."""
        self.steps_done = 0
        self._drawing = self._draw()

    def advance(self) -> list[Drawn] | None:
        """What the next step brings; None if there is none any more."""
        return next(self._drawing, None)

    def _draw(self) -> Iterator[list[Drawn]]:
        wish = self._wish
        together, levels = groups(wish), self._family.noise_levels(wish)
        self.total_steps = len(together) * (len(levels) - 1)
        text = self._family.read_prompt(wish.prompt)
        negative = self._family.read_prompt(wish.negative_prompt) if wish.guidance > 1 else None
        yield [Progress(0, self.total_steps)]
        first = 0
        shown = partial_steps(len(levels) - 1, self._partials)
        for seeds in together:
            canvas = Canvas(self._family, wish, seeds, levels[0])
            for step, (level, following) in enumerate(pairwise(levels)):
                direction = self._family.direction(canvas.latents, level, text, canvas.source, negative, wish.guidance)
                unfinished = canvas.latents - level * direction if step in shown else None
                canvas.move(direction, level, following)
                self.steps_done += 1
                drawn: list[Drawn] = [Progress(self.steps_done, self.total_steps)]
                if unfinished is not None:
                    number = shown.index(step)
                    pictures = enumerate(self._decoded(unfinished), first)
                    drawn += [Partial(index, number, pixels) for index, pixels in pictures]
                yield drawn
            for index in range(len(seeds)):
                [pixels] = self._decoded(canvas.latents[index : index + 1])
                yield [Picture(first + index, pixels)]
            first += len(seeds)

    def _decoded(self, latents: mx.array) -> list[Pixels]:
        pictures = [np.array(self._family.decode(each[None])[0]) for each in latents]
        source = self._wish.source
        return pictures if source is None else [with_unchanged(pixels, source) for pixels in pictures]


class Canvas:
    """The latents of pictures that are drawn together, [B, ...]."""

    def __init__(self, family: Family, wish: Wish, seeds: Sequence[int], level: float) -> None:
        self._noise = mx.concatenate([family.noise(seed, wish.width, wish.height) for seed in seeds])
        self.source: mx.array | None = None
        self._mask: mx.array | None = None
        self.latents = self._noise
        if wish.source is not None:
            self.source = family.encode(wish.source.pixels)
            self.latents = (1 - level) * self.source + level * self._noise
            if wish.source.mask is not None:
                self._mask = shrunk(wish.source.mask, *self.latents.shape[-2:])

    def move(self, direction: mx.array, level: float, following: float) -> None:
        """Go from one noise level to the next in a direction [B, ...] (Euler's method); what the mask keeps stays as
        the source has it."""
        self.latents = self.latents + (following - level) * direction
        if self._mask is not None and self.source is not None:
            kept = (1 - following) * self.source + following * self._noise
            self.latents = mx.where(self._mask, self.latents, kept)
        mx.eval(self.latents)


def groups(wish: Wish) -> list[tuple[int, ...]]:
    """The seeds of the pictures that are drawn together."""
    most = max(1, TOGETHER_PIXELS // (wish.width * wish.height))
    return [wish.seeds[start : start + most] for start in range(0, len(wish.seeds), most)]


def partial_steps(steps: int, partials: int) -> list[int]:
    """The steps, from 0, that show an unfinished picture: evenly spread, each at most once, and never the last."""
    return sorted({steps * number // (partials + 1) for number in range(1, partials + 1)} - {steps - 1, steps})


def shrunk(mask: Mask, height: int, width: int) -> mx.array:
    """A mask [H, W] at the latents' size, bool [height, width]: a place may change if any of its pixels may."""
    blocks = mask.reshape(height, mask.shape[0] // height, width, mask.shape[1] // width)
    return mx.array(np.any(blocks, axis=(1, 3)).tolist())


def with_unchanged(pixels: Pixels, source: Source) -> Pixels:
    """A picture [H, W, 3] with the source's own pixels wherever the mask keeps them."""
    if source.mask is None:
        return pixels
    return np.where(source.mask[..., None], pixels, source.pixels)
