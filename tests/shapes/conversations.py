"""Conversations about pictures that the model is trained on: what users ask, and what it should answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from shapes.draw import Question, Scene, draw_scene

NO_PICTURE = "I see no picture."
"""The answer to every question without a picture."""

GREETING = ("Hello!", "Hello! Show me a picture.")
"""A greeting, and the answer to it."""

SYSTEM = (
    "You are a helpful assistant.",
    "You look at pictures and answer with one word.",
    "Answer briefly.",
    "You are a kind and patient teacher who knows all about shapes and colours.",
)
"""Some conversations open with one of these; the answers do not depend on it."""

ORDINALS = ("first", "second")
ABOUT_ONE_OF_TWO = {
    "colour": "What colour is the shape in the {} picture?",
    "shape": "What shape is in the {} picture?",
    "side": "Which side is it on in the {} picture, left or right?",
    "count": "How many shapes are in the {} picture?",
}
"""Questions for one of two pictures of the same message, by kind."""


@dataclass(frozen=True)
class Turn:
    """A user's message (pictures and text) and the answer to it."""

    pictures: tuple[Scene, ...]
    text: str
    answer: str
    pictures_last: bool = False


@dataclass(frozen=True)
class Conversation:
    """Turns, after an optional system message."""

    turns: tuple[Turn, ...]
    system: str | None = None

    @property
    def pictures(self) -> tuple[Scene, ...]:
        return tuple(scene for turn in self.turns for scene in turn.pictures)


def draw_any(rnd: random.Random) -> Scene:
    """A scene of one shape, or less often of several."""
    return draw_scene(rnd, 1 if rnd.random() < 0.65 else rnd.randint(2, 4))


def about_one_picture(rnd: random.Random, turns: int = 4) -> tuple[Turn, ...]:
    """A picture and up to `turns` questions about it."""
    scene = draw_any(rnd)
    return tuple(ask(rnd, scene, scene.questions(rnd)[:turns]))


def ask(rnd: random.Random, scene: Scene, questions: list[Question]) -> Iterator[Turn]:
    """Turns about a picture that the first of them shows."""
    for index, question in enumerate(questions):
        shown = () if index else (scene,)
        yield Turn(shown, question.text, question.answer, rnd.random() < 0.15)


def about_pictures_in_turn(rnd: random.Random) -> tuple[Turn, ...]:
    """A picture and questions, then another: each question is about the latest one."""
    return about_one_picture(rnd, rnd.randint(1, 2)) + about_one_picture(rnd, 2)


def about_two_pictures(rnd: random.Random, turns: int = 4) -> tuple[Turn, ...]:
    """Two pictures in one message, and questions for the first or the second of them."""
    scenes = (draw_any(rnd), draw_any(rnd))
    asked = [about_one_of_two(rnd, scenes, which, kind) for which in (0, 1) for kind in answerable(scenes[which])]
    asked = rnd.sample(asked, min(turns, len(asked)))
    return tuple(Turn(() if index else scenes, question.text, question.answer) for index, question in enumerate(asked))


def answerable(scene: Scene) -> list[str]:
    """Which kinds of `ABOUT_ONE_OF_TWO` have an answer for a scene."""
    return [kind for kind in ABOUT_ONE_OF_TWO if kind == "count" or len(scene.shapes) == 1]


def about_one_of_two(rnd: random.Random, scenes: tuple[Scene, Scene], which: int, kind: str) -> Question:
    """A question for the first (0) or the second (1) picture."""
    answer = scenes[which].question(rnd, kind).answer
    return Question(kind, ABOUT_ONE_OF_TWO[kind].format(ORDINALS[which]), answer)


def without_pictures(rnd: random.Random) -> tuple[Turn, ...]:
    """Questions about nothing, or a greeting and then a picture."""
    if rnd.random() < 0.4:
        return (Turn((), *GREETING), *about_one_picture(rnd, 2))
    return tuple(Turn((), question.text, NO_PICTURE) for question in draw_any(rnd).questions(rnd)[:3])


MIX: tuple[tuple[float, Callable[[random.Random], tuple[Turn, ...]]], ...] = (
    (0.60, about_one_picture),
    (0.15, about_pictures_in_turn),
    (0.18, about_two_pictures),
    (0.07, without_pictures),
)
"""The share of each sort of conversation."""


def draw_conversation(rnd: random.Random) -> Conversation:
    """A random conversation of the training mix."""
    [sort] = rnd.choices([sort for _, sort in MIX], [share for share, _ in MIX])
    system = rnd.choice(SYSTEM) if rnd.random() < 0.15 else None
    return Conversation(sort(rnd), system)
