"""Held-out questions: fresh conversations about pictures, each to be answered at its last turn."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from shapes.conversations import (
    ABOUT_ONE_OF_TWO,
    Turn,
    about_one_of_two,
    about_pictures_in_turn,
    answerable,
    ask,
    draw_any,
    without_pictures,
)
from shapes.draw import QUESTIONS, draw_scene


def user_message(turn: Turn) -> dict[str, Any]:
    """A user's message in the form chat templates take."""
    text = {"type": "text", "text": turn.text}
    pictures = [{"type": "image"} for _ in turn.pictures]
    return {"role": "user", "content": [text, *pictures] if turn.pictures_last else [*pictures, text]}


def messages_up_to(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Turns as messages, without the last one's answer."""
    messages = []
    for turn in turns:
        messages += [user_message(turn), {"role": "assistant", "content": turn.answer}]
    return messages[:-1]


def held_out(rnd: random.Random, each: int) -> Iterator[tuple[str, tuple[Turn, ...]]]:
    """Fresh conversations to be answered at their last turn, `each` for every kind of question."""
    for _ in range(each):
        for kind in QUESTIONS:
            yield kind, single_turn(rnd, kind)
        for kind in ABOUT_ONE_OF_TWO:
            yield f"{kind}, of two pictures in a message", of_two(rnd, kind)
        yield "about the latest of two pictures", about_pictures_in_turn(rnd)
        yield "no picture", without_pictures(rnd)[:1]


def single_turn(rnd: random.Random, kind: str) -> tuple[Turn, ...]:
    """A picture and one question of a kind."""
    scene = draw_scene(rnd, rnd.randint(1, 4) if kind == "count" else 1)
    return tuple(ask(rnd, scene, [scene.question(rnd, kind)]))


def of_two(rnd: random.Random, kind: str) -> tuple[Turn, ...]:
    """Two pictures in one message and a question for one of them."""
    while True:
        scenes, which = (draw_any(rnd), draw_any(rnd)), rnd.randint(0, 1)
        if kind in answerable(scenes[which]):
            question = about_one_of_two(rnd, scenes, which, kind)
            return (Turn(scenes, question.text, question.answer),)
