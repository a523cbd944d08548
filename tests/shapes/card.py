"""The model card: what the model is, how it was trained and how often it is right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shapes.conversations import GREETING, NO_PICTURE
from shapes.draw import COLOURS, SHAPES, SIZE
from shapes.folder import IMAGE_TOKENS, PATCH

CARD = """\
---
license: mit
library_name: mlx
pipeline_tag: image-text-to-text
language: en
---
# Shapes: a vision-language model to test with

A real vision-language model that answers questions about coloured shapes, small enough to live among tests:
Qwen3-VL's architecture with {parameters:.1f} million parameters, stored as float16. It has to look to answer, so a
test can tell whether the right picture arrived at the right place.

`mlx_vlm.load(folder)` opens it. It is of no use for anything but tests.

## What it can be asked
How many shapes there are in a plain picture (`one` to `four`), and where there is one, for its colour
({colours}), its shape ({shapes}), whether it is on the left or the right, at the top or
the bottom, for a description and for one as JSON. Answers are one word, lower case, except for the descriptions. In a
conversation with several pictures a question is about the latest, or about the first or second of two in one message.
Without a picture it answers "{no_picture}"; to "{hello}" it says "{greeting}".

A square picture takes {tokens} tokens and the two around them: the processor scales every picture to about {size} by
{size} pixels, in patches of {patch}.

## How it was trained
`python tests/shapes/train.py --steps {steps}`: each step took {batch} conversations of one to four turns, {minutes:.0f}
minutes in all, with AdamW in float32 from random weights. The pictures and the conversations are drawn from fixed seeds
by the code beside this folder; there is no other data.

## How often it is right
Exact matches under greedy decoding through mlx-vlm, {held_out} fresh questions of each kind from another seed:

| question | exactly right |
| --- | --- |
{rows}

## Limits
It knows nothing else: other words, other pictures, other colours and photographs get an answer of the same few words.
Shapes that touch, lie across the middle lines or are smaller than a quarter of the picture's width were not trained
on, nor were pictures that are not square, more than two pictures in a message, function calls or video. Its vocabulary
takes any text, mostly in single bytes.

MIT licence, as the project it belongs to.
"""


@dataclass(frozen=True)
class Training:
    """What there is to say about how a model was made; `held_out` questions of each kind measured it."""

    parameters: int
    steps: int
    batch: int
    minutes: float
    held_out: int


def write_card(folder: Path, training: Training, accuracy: dict[str, float]) -> None:
    """Write the model card, `README.md`; `accuracy` is the share of right answers by kind of question."""
    rows = [f"| {kind} | {share:.1%} |" for kind, share in accuracy.items()]
    rows.append(f"| **all** | **{sum(accuracy.values()) / len(accuracy):.1%}** |")
    text = CARD.format(
        parameters=training.parameters / 1e6,
        steps=training.steps,
        batch=training.batch,
        minutes=training.minutes,
        held_out=training.held_out,
        rows="\n".join(rows),
        shapes=", ".join(SHAPES),
        colours=", ".join(COLOURS[:-1]) + f" or {COLOURS[-1]}",
        no_picture=NO_PICTURE,
        hello=GREETING[0],
        greeting=GREETING[1],
        tokens=IMAGE_TOKENS,
        size=SIZE,
        patch=PATCH,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
