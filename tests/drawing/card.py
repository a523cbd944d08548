"""The model card: what the model is, how it was trained and how often it is right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from drawing.measure import Verdict
from drawing.scenes import PLACES, WORDINGS
from shapes.draw import COLOURS, SHAPES, SIZE

CARD = """\
---
license: mit
library_name: mlx
pipeline_tag: text-to-image
language: en
---
# Drawing: a model that draws, to test with

A real model that draws one coloured shape where it is asked for, small enough to live among tests: Z-Image's
architecture (a Qwen3 text encoder, a transformer over text and picture, FLUX's autoencoder) with {parameters:.1f}
million parameters, stored as float16 in Diffusers' layout. `load_image_generation_model(folder)` of
`mlx_vlm.generate.image` opens it as any other of its family. It is of no use for anything but tests.

## What it can be asked
For one of {colours}; {shapes}; at one of the places {places}; in these words:

{wordings}

Pictures are {size} by {size} pixels, in nine steps, without guidance.

## How it was trained
`python tests/drawing/train.py --small-steps {small_steps} --large-steps {large_steps} --flow-steps {flow_steps}`: first
the autoencoder on pictures of half size and then of full size, then the text encoder and the transformer together by
flow matching, {minutes:.0f} minutes in all, with AdamW in float32 from random weights. Pictures and prompts are drawn
from fixed seeds by the code beside this folder; there is no other data. One in six combinations of colour, shape and
place was left out of the training, in all its words.

## How often it is right
{held_out} prompts, all of combinations that were never trained, each drawn once by mlx-vlm; judged by the model in
`tests/shapes/model`, which sees, and by a count of pixels:

| right | as a model sees it | by its pixels |
| --- | --- | --- |
{rows}

## Limits
It knows nothing else: other words and sizes give something of the same few pictures. Two shapes, other colours and
the middle of the picture were not trained.

MIT licence, as the project it belongs to.
"""


@dataclass(frozen=True)
class Training:
    """What there is to say about how a model was made; `held_out` prompts measured it."""

    parameters: int
    small_steps: int
    large_steps: int
    flow_steps: int
    minutes: float
    held_out: int


def write_card(folder: Path, training: Training, verdict: Verdict) -> None:
    """Write the model card, `README.md`."""
    shares = verdict.shares().items()
    text = CARD.format(
        parameters=training.parameters / 1e6,
        small_steps=training.small_steps,
        large_steps=training.large_steps,
        flow_steps=training.flow_steps,
        minutes=training.minutes,
        held_out=training.held_out,
        rows="\n".join(f"| {what} | {by_model:.1%} | {by_pixels:.1%} |" for what, (by_model, by_pixels) in shares),
        colours=", ".join(COLOURS),
        shapes=", ".join(SHAPES),
        places=", ".join(PLACES),
        wordings="\n".join(
            f"- `{text.format(colour='red', kind='circle', at='at', place='top left')}`" for text in WORDINGS
        ),
        size=SIZE,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
