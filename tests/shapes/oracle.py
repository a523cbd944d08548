"""Asks the model about pictures as its users do: mlx-vlm loads it, processes pictures and generates greedily."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_vlm
from PIL import Image
from shapes.held_out import held_out, messages_up_to


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
