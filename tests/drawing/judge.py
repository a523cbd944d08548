"""Whether pictures show what was asked for: the model that sees shapes says so, and independently the pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from drawing.scenes import Wish
from PIL import Image
from shapes.draw import RGB
from shapes.oracle import Oracle

EYES = Path(__file__).parents[1] / "shapes" / "model"
"""The model that sees."""

QUESTIONS = {
    "colour": "What colour is the shape?",
    "shape": "What shape is it?",
    "side": "Is it on the left or on the right?",
    "height": "Is it at the top or at the bottom?",
}

FILLS = {"circle": 0.785, "square": 1.0, "triangle": 0.5}
"""The share of the smallest upright rectangle round it that a shape covers."""

FAR = 60
"""A pixel whose colour is further than that from the background's belongs to the shape."""

Pixels = npt.NDArray[np.uint8]
"""A picture, uint8 [rows, columns, 3]."""


@dataclass(frozen=True)
class Seen:
    """What somebody says of a picture; `sides` are "left" or "right", and "top" or "bottom"."""

    colour: str
    kind: str
    sides: frozenset[str]

    def placed(self, wish: Wish) -> bool:
        """Colour and place are as wished."""
        return self.colour == wish.colour and wish.sides <= self.sides

    def fulfils(self, wish: Wish) -> bool:
        """The kind of shape is, too."""
        return self.placed(wish) and self.kind == wish.kind


class Eyes:
    """The vision model, asked one question after the other."""

    def __init__(self) -> None:
        self._oracle = Oracle(EYES)

    def look(self, pixels: Pixels) -> Seen:
        """What it says of a picture."""
        picture = Image.fromarray(pixels)
        said = {kind: self._ask(picture, question) for kind, question in QUESTIONS.items()}
        return Seen(said["colour"], said["shape"], frozenset((said["side"], said["height"])))

    def _ask(self, picture: Image.Image, question: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        return self._oracle.answer([{"role": "user", "content": content}], [picture], max_tokens=4)


def measure_pixels(pixels: Pixels) -> Seen:
    """What the pixels say by themselves: the nearest colour, the middle, and the share of a rectangle that is covered.

    The background is what the picture's corners mostly are.
    """
    corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]].astype(float)
    apart = np.abs(pixels - np.median(corners, axis=0)).max(axis=-1)
    rows, columns = np.nonzero(apart > FAR)
    if not len(rows):
        return Seen("", "", frozenset())
    mean = np.median(pixels[rows, columns], axis=0)
    colour = min(RGB, key=lambda name: float(np.abs(mean - RGB[name]).sum()))
    height, width = pixels.shape[:2]
    sides = {"left" if columns.mean() < width / 2 else "right", "top" if rows.mean() < height / 2 else "bottom"}
    box = (extent(rows) + 1) * (extent(columns) + 1)
    kind = min(FILLS, key=lambda name: abs(len(rows) / box - FILLS[name]))
    return Seen(colour, kind, frozenset(sides))


def extent(places: npt.NDArray[np.intp]) -> float:
    """From the second to the last but one percentile: stray pixels do not count."""
    low, high = np.percentile(places, (1, 99))
    return float(high - low)


def share(right: Iterable[bool]) -> float:
    """How many are."""
    found = list(right)
    return sum(found) / len(found)
