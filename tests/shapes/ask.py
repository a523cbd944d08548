"""Asks the model about pictures as its users do: mlx-vlm loads it, processes pictures and generates greedily."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_vlm
from PIL import Image
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


class Oracle:
    """The model of a folder, in float32."""

    def __init__(self, folder: Path) -> None:
        self.model, self.processor = mlx_vlm.load(str(folder), trust_remote_code=False)
        self.model.set_dtype(mx.float32)
        mx.eval(self.model.parameters())

    def prompt(self, messages: list[dict[str, Any]], **how: Any) -> str:
        """The text of a conversation as the chat template renders it."""
        rendered = self.processor.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **how
        )
        return str(rendered)

    def answer(self, messages: list[dict[str, Any]], pictures: Sequence[Image.Image], max_tokens: int = 32) -> str:
        """What the model says next."""
        result = mlx_vlm.generate(
            self.model,
            self.processor,
            self.prompt(messages),
            image=list(pictures) or None,
            max_tokens=max_tokens,
            temperature=0.0,
            verbose=False,
        )
        return str(result.text)


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
    single = kind not in ("count", "colour of", "shape of")
    while True:
        scene = draw_scene(rnd, 1 if single else rnd.randint(1 if kind == "count" else 2, 4))
        if questions := [question for question in scene.questions(rnd) if question.kind == kind]:
            return tuple(ask(rnd, scene, questions))


def of_two(rnd: random.Random, kind: str) -> tuple[Turn, ...]:
    """Two pictures in one message and a question for one of them."""
    while True:
        scenes, which = (draw_any(rnd), draw_any(rnd)), rnd.randint(0, 1)
        if kind in answerable(scenes[which]):
            question = about_one_of_two(rnd, scenes, which, kind)
            return (Turn(scenes, question.text, question.answer, question.kind),)


def measure(folder: Path, each: int, seed: int) -> dict[str, float]:
    """Share of exactly right answers by kind of question, over `each` fresh conversations per kind."""
    oracle = Oracle(folder)
    asked: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for kind, turns in held_out(random.Random(seed), each):
        pictures = [scene.image() for turn in turns for scene in turn.pictures]
        asked[kind] += 1
        right[kind] += oracle.answer(messages_up_to(turns), pictures) == turns[-1].answer
    return {kind: right[kind] / asked[kind] for kind in asked}
