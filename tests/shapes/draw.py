"""Pictures of coloured shapes, drawn from a seed, with the questions they answer.

A scene is drawn in fractions of its sides, so that it looks alike at every size.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

SIZE = 64
"""Width and height in pixels of the pictures the model sees; its processor scales others to it."""

RGB = {
    "red": (220, 30, 30),
    "green": (30, 170, 40),
    "blue": (40, 60, 230),
    "yellow": (235, 215, 30),
    "purple": (150, 40, 180),
    "black": (15, 15, 15),
}
COLOURS = tuple(RGB)
SHAPES = ("circle", "square", "triangle")
COUNTS = ("one", "two", "three", "four")

QUESTIONS = {
    "colour": ("What colour is the shape?", "What color is it?"),
    "shape": ("What shape is it?", "Which shape is this?"),
    "side": ("Is it on the left or on the right?", "Which side is it on, left or right?"),
    "height": ("Is it at the top or at the bottom?", "Where is it, top or bottom?"),
    "count": ("How many shapes are there?", "How many shapes do you see?"),
    "describe": ("Describe the picture.", "What do you see?"),
    "json": ("Describe the shape as JSON.",),
}
"""How each kind of question may be put. All but the count are about a picture's only shape."""


@dataclass(frozen=True)
class Shape:
    """One shape; `x`, `y` (its middle) and `radius` are fractions of the picture's sides."""

    kind: str
    colour: str
    x: float
    y: float
    radius: float

    @property
    def side(self) -> str:
        return "left" if self.x < 0.5 else "right"

    @property
    def height(self) -> str:
        return "top" if self.y < 0.5 else "bottom"

    def overlaps(self, other: Shape) -> bool:
        apart = self.radius + other.radius + 0.06
        return abs(self.x - other.x) < apart and abs(self.y - other.y) < apart


@dataclass(frozen=True)
class Question:
    """A question about a picture, its kind (a key of `QUESTIONS`) and its one right answer."""

    kind: str
    text: str
    answer: str


@dataclass(frozen=True)
class Scene:
    """Shapes on a plain, light background."""

    background: tuple[int, int, int]
    shapes: tuple[Shape, ...]

    def image(self, width: int = SIZE, height: int | None = None) -> Image.Image:
        """Draw it, `width` by `height` pixels; square unless told."""
        size = (width, height or width)
        image = Image.new("RGB", size, self.background)
        canvas = ImageDraw.Draw(image)
        for shape in self.shapes:
            draw_shape(canvas, shape, size)
        return image

    def questions(self, rnd: random.Random) -> list[Question]:
        """One question of each kind that has one right answer here, in random words and order."""
        asked = [self.question(rnd, kind) for kind in self.answers()]
        return rnd.sample(asked, len(asked))

    def question(self, rnd: random.Random, kind: str) -> Question:
        """A question of one kind, which must have an answer here."""
        return Question(kind, rnd.choice(QUESTIONS[kind]), self.answers()[kind])

    def answers(self) -> dict[str, str]:
        """What is to be said about the picture, by kind of question."""
        count = {"count": COUNTS[len(self.shapes) - 1]}
        return {**count, **single_answers(self.shapes[0])} if len(self.shapes) == 1 else count


def single_answers(shape: Shape) -> dict[str, str]:
    """What is to be said about the only shape of a picture, by kind of question."""
    return {
        "colour": shape.colour,
        "shape": shape.kind,
        "side": shape.side,
        "height": shape.height,
        "describe": f"a {shape.colour} {shape.kind} at the {shape.height} {shape.side}",
        "json": json.dumps({"colour": shape.colour, "shape": shape.kind}),
    }


def draw_scene(rnd: random.Random, count: int = 1) -> Scene:
    """A random scene with 1 to 4 shapes that do not touch; a single shape is clear of the middle lines."""
    background = (rnd.randint(205, 255), rnd.randint(205, 255), rnd.randint(205, 255))
    while len(shapes := place(rnd, count)) < count:
        pass
    return Scene(background, tuple(shapes))


def place(rnd: random.Random, count: int) -> list[Shape]:
    """Shapes put down one after another; fewer than asked for where one finds no room."""
    shapes: list[Shape] = []
    for _ in range(50):
        if len(shapes) == count:
            break
        shape = draw_one(rnd, alone=count == 1)
        if not any(shape.overlaps(other) for other in shapes):
            shapes.append(shape)
    return shapes


def draw_one(rnd: random.Random, *, alone: bool) -> Shape:
    """A random shape that lies within the picture."""
    radius = rnd.uniform(0.17, 0.28) if alone else rnd.uniform(0.12, 0.16)
    x, y = (coordinate(rnd, radius, 0.08 if alone else 0.0) for _ in range(2))
    return Shape(rnd.choice(SHAPES), rnd.choice(COLOURS), x, y, radius)


def coordinate(rnd: random.Random, radius: float, clear: float) -> float:
    """Where a middle may lie, at least `clear` from one half."""
    low = rnd.uniform(radius, 0.5 - clear)
    return low if rnd.random() < 0.5 else 1 - low


def draw_shape(canvas: ImageDraw.ImageDraw, shape: Shape, size: tuple[int, int]) -> None:
    """Draw one shape on a canvas of `size` pixels."""
    x, y, radius = shape.x * size[0], shape.y * size[1], shape.radius * min(size)
    box = (x - radius, y - radius, x + radius, y + radius)
    colour = RGB[shape.colour]
    match shape.kind:
        case "circle":
            canvas.ellipse(box, fill=colour)
        case "square":
            canvas.rectangle(box, fill=colour)
        case "triangle":
            canvas.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
        case other:
            raise ValueError(f"no such shape: {other}")
