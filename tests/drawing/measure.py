"""How often the model of a folder draws what it is asked for, loaded and driven by mlx-vlm as a real one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from drawing.judge import Eyes, Pixels, Seen, measure_pixels, share
from drawing.scenes import Wish, held_out_prompts
from mlx_vlm.generate.image import generate_image, load_image_generation_model
from rich.table import Table
from shapes.draw import SIZE


@dataclass(frozen=True)
class Judged:
    """A prompt's picture, and what each judge says of it."""

    wish: Wish
    by_model: Seen
    by_pixels: Seen


@dataclass(frozen=True)
class Verdict:
    """What became of some prompts."""

    judged: list[Judged]

    def shares(self) -> dict[str, tuple[float, float]]:
        """The share of right pictures by what is to be right, as the model that sees says and as the pixels say."""
        return {
            "colour and place": (
                share(each.by_model.placed(each.wish) for each in self.judged),
                share(each.by_pixels.placed(each.wish) for each in self.judged),
            ),
            "colour, place and shape": (
                share(each.by_model.fulfils(each.wish) for each in self.judged),
                share(each.by_pixels.fulfils(each.wish) for each in self.judged),
            ),
        }

    def table(self) -> Table:
        """For people."""
        shown = Table("right", "as a model sees it", "by its pixels")
        for what, (by_model, by_pixels) in self.shares().items():
            shown.add_row(what, f"{by_model:.1%}", f"{by_pixels:.1%}")
        return shown


class Painter:
    """The model of a folder, in float32."""

    def __init__(self, folder: Path) -> None:
        self._model: Any = load_image_generation_model(str(folder), evict_text_encoder=False)
        pipeline = self._model.pipeline
        pipeline._ensure_components()
        for part in (pipeline.text_encoder, pipeline.transformer, pipeline.vae):
            part.set_dtype(mx.float32)

    def draw(self, prompt: str, seed: int) -> Pixels:
        """A picture of the size that the model was trained with, uint8 [rows, columns, 3]."""
        return np.array(generate_image(self._model, prompt, seed=seed, width=SIZE, height=SIZE).array)


def measure(folder: Path, count: int, seed: int) -> Verdict:
    """Draw and judge so many held-out prompts, each from a seed of its own."""
    painter, eyes = Painter(folder), Eyes()
    judged = []
    for number, (prompt, wish) in enumerate(held_out_prompts(count, seed)):
        pixels = painter.draw(prompt, seed + number)
        judged.append(Judged(wish, eyes.look(pixels), measure_pixels(pixels)))
    return Verdict(judged)
