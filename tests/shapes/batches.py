"""Conversations as the arrays that training computes with; the same tokens and patches as the served model gets."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image
from shapes.conversations import Conversation, Turn, draw_conversation
from shapes.draw import SIZE, Scene
from shapes.folder import GRID, IMAGE_TOKENS, MERGE, PATCH
from tokenizers import Tokenizer

ALIKE = 4
"""How many batches are sorted by length together."""

PICTURE = "<|vision_start|>" + "<|image_pad|>" * IMAGE_TOKENS + "<|vision_end|>"


@dataclass(frozen=True)
class Batch:
    """B conversations of at most L tokens with P pictures in all.

    `tokens` is (B, L), padded on the right; `positions` (3, B, L): time, row and column for the rotary embedding;
    `asked` (B, L): where the next token belongs to an answer; `patches` (P, GRID * GRID, values of a patch),
    in the order in which the pictures' tokens come.
    """

    tokens: np.ndarray
    positions: np.ndarray
    asked: np.ndarray
    patches: np.ndarray


def segments(conversation: Conversation) -> Iterator[tuple[str, bool]]:
    """The text as the chat template renders it, piece by piece, and whether the model is to learn to say it."""
    if conversation.system is not None:
        yield f"<|im_start|>system\n{conversation.system}<|im_end|>\n", False
    for turn in conversation.turns:
        yield f"<|im_start|>user\n{user_text(turn)}<|im_end|>\n<|im_start|>assistant\n", False
        yield f"{turn.answer}<|im_end|>", True
        yield "\n", False


def user_text(turn: Turn) -> str:
    """A user's message with its pictures in place."""
    pictures = PICTURE * len(turn.pictures)
    return turn.text + pictures if turn.pictures_last else pictures + turn.text


def encode(tokenizer: Tokenizer, conversation: Conversation) -> tuple[list[int], list[bool]]:
    """Token ids, and which of them are answers."""
    ids: list[int] = []
    answers: list[bool] = []
    for text, is_answer in segments(conversation):
        piece = tokenizer.encode(text, add_special_tokens=False).ids
        ids += piece
        answers += [is_answer] * len(piece)
    return ids, answers


def rotary_positions(ids: list[int], image_token: int) -> np.ndarray:
    """Qwen3-VL's positions, (3, tokens): a picture's tokens share a time and have rows and columns of their own."""
    side = GRID // MERGE
    rows, columns = np.divmod(np.arange(IMAGE_TOKENS), side)
    picture = np.stack([np.zeros_like(rows), rows, columns])
    positions = np.zeros((3, len(ids)), np.int32)
    at, position = 0, 0
    while at < len(ids):
        if ids[at] == image_token:
            positions[:, at : at + IMAGE_TOKENS] = picture + position
            at, position = at + IMAGE_TOKENS, position + side
        else:
            positions[:, at] = position
            at, position = at + 1, position + 1
    return positions


def patches(image: Image.Image) -> np.ndarray:
    """What the processor makes of a picture of `SIZE` by `SIZE` pixels: (patches, values), in blocks to be merged."""
    pixels = (np.asarray(image, np.float32) / 255 - 0.5) / 0.5
    frames = np.stack([pixels.transpose(2, 0, 1)] * 2)
    side = GRID // MERGE
    blocks = frames.reshape(2, 3, side, MERGE, PATCH, side, MERGE, PATCH)
    return blocks.transpose(2, 5, 3, 6, 1, 0, 4, 7).reshape(GRID * GRID, -1)


def at_some_size(rnd: random.Random, scene: Scene) -> Image.Image:
    """The scene at the model's size; one in three drawn at another and scaled as the processor would."""
    if rnd.random() < 2 / 3:
        return scene.image()
    return scene.image(rnd.randint(SIZE, 5 * SIZE)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def make_batches(rnd: random.Random, tokenizer: Tokenizer, size: int) -> Iterator[Batch]:
    """Endless batches of `size` random conversations; those of like length come together.

    Batches made from other random numbers come in the same order of length.
    """
    order = random.Random(0)
    while True:
        drawn = [draw_conversation(rnd) for _ in range(ALIKE * size)]
        drawn.sort(key=lambda conversation: len(encode(tokenizer, conversation)[0]))
        for start in order.sample(range(0, len(drawn), size), ALIKE):
            yield make_batch(rnd, tokenizer, drawn[start : start + size])


def make_batch(
    rnd: random.Random,
    tokenizer: Tokenizer,
    conversations: list[Conversation],
    photograph: Callable[[random.Random, Scene], Image.Image] = at_some_size,
) -> Batch:
    """The arrays of some conversations."""
    encoded = [encode(tokenizer, conversation) for conversation in conversations]
    size, length = len(encoded), max(len(ids) for ids, _ in encoded)
    image_token = tokenizer.token_to_id("<|image_pad|>")
    tokens = np.full((size, length), tokenizer.token_to_id("<|endoftext|>"), np.int32)
    positions = np.zeros((3, size, length), np.int32)
    asked = np.zeros((size, length), np.bool_)
    for row, (ids, answers) in enumerate(encoded):
        tokens[row, : len(ids)] = ids
        positions[:, row, : len(ids)] = rotary_positions(ids, image_token)
        asked[row, : len(ids) - 1] = answers[1:]
    pictures = [photograph(rnd, scene) for conversation in conversations for scene in conversation.pictures]
    seen = np.stack([patches(picture) for picture in pictures])
    return Batch(tokens, positions, asked, seen)
