"""Prompts for one coloured shape, and pictures that show what they ask for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from shapes.draw import COLOURS, SHAPES, Scene, Shape

BACKGROUND = (240, 240, 240)
HEIGHTS = ("", "top", "bottom")
SIDES = ("", "left", "right")
PLACES = tuple(filter(None, (f"{height} {side}".strip() for height, side in product(HEIGHTS, SIDES))))
"""Where a prompt may want the shape: a height, a side, or both."""

WORDINGS = (
    "a {colour} {kind} {at} the {place}",
    "{colour} {kind}, {place}",
    "Draw a {colour} {kind} {at} the {place}.",
    "I want a {colour} {kind}, {place}.",
    "{place}: {colour} {kind}",
)
HELD_OUT_EVERY = 6
"""One of so many combinations of colour, kind and place is never trained, whatever its words."""


@dataclass(frozen=True)
class Wish:
    """What a prompt asks for; `place` is one of `PLACES`."""

    colour: str
    kind: str
    place: str

    @property
    def held_out(self) -> bool:
        """It is kept from training. Each colour, kind and place is held out in some company and trained in other."""
        at = COLOURS.index(self.colour) + 2 * SHAPES.index(self.kind) + PLACES.index(self.place)
        return at % HELD_OUT_EVERY == 0

    @property
    def sides(self) -> frozenset[str]:
        """The sides that the shape has to be on, of "left", "right", "top" and "bottom"."""
        return frozenset(self.place.split())

    def prompts(self) -> list[str]:
        """Every way to put it."""
        at = "on" if self.place in SIDES else "at"
        return [text.format(colour=self.colour, kind=self.kind, at=at, place=self.place) for text in WORDINGS]


WISHES = tuple(Wish(*each) for each in product(COLOURS, SHAPES, PLACES))


def held_out_prompts(count: int, seed: int) -> list[tuple[str, Wish]]:
    """Random prompts, all different, of wishes that were never trained."""
    every = [(prompt, wish) for wish in WISHES if wish.held_out for prompt in wish.prompts()]
    return random.Random(seed).sample(every, count)


def draw_shape(rnd: random.Random) -> Shape:
    """A random shape, clear of the middle lines and of the edges."""
    radius = rnd.uniform(0.18, 0.23)
    x, y = (0.5 + rnd.choice((-1, 1)) * rnd.uniform(0.2, 0.26) for _ in range(2))
    return Shape(rnd.choice(SHAPES), rnd.choice(COLOURS), x, y, radius)


def draw_scenes(rnd: random.Random) -> Iterator[Scene]:
    """Endless random scenes with one shape."""
    while True:
        yield Scene(BACKGROUND, (draw_shape(rnd),))


def trained_prompts(shape: Shape) -> list[str]:
    """All prompts that the shape fulfils and that are not held out."""
    places = (shape.height, shape.side, f"{shape.height} {shape.side}")
    wishes = [Wish(shape.colour, shape.kind, place) for place in places]
    return [prompt for wish in wishes if not wish.held_out for prompt in wish.prompts()]
