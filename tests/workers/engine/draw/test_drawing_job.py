"""Jobs that draw, with a family whose pictures can be reckoned: a step takes the noise away in proportion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_server.workers.engine.draw.job import TOGETHER_PIXELS, DrawingJob, Partial, Picture, Progress, partial_steps
from mlx_server.workers.engine.draw.wish import Defaults, Limits, Pixels, Source, Wish


class Grey:
    """Draws the grey whose level the prompt is; noise is the seed. Counts what is computed."""

    name = "grey"
    limits = Limits(8, 8, 2048, 2048 * 2048, 1, 100, 10, guided=True)
    defaults = Defaults(16, 16, 4, 0.0)

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.batches: list[int] = []

    def prompt_ids(self, prompt: str) -> Sequence[int]:
        return [0] * len(prompt)

    def picture_tokens(self, width: int, height: int) -> int:
        return width * height // 64

    def read_prompt(self, prompt: str) -> mx.array:
        self.prompts.append(prompt)
        return mx.array([[[float(prompt or 0)]]])

    def noise_levels(self, wish: Wish) -> Sequence[float]:
        levels = [1 - step / wish.steps for step in range(wish.steps + 1)]
        return levels if wish.source is None or wish.source.mask is not None else levels[wish.steps // 2 :]

    def noise(self, seed: int, width: int, height: int) -> mx.array:
        return mx.full((1, 1, 1, height // 8, width // 8), float(seed))

    def direction(
        self, latents: mx.array, level: float, text: mx.array, shown: Any, negative: Any, guidance: float
    ) -> mx.array:
        self.batches.append(latents.shape[0])
        return (latents - text.item()) / level

    def encode(self, pixels: Pixels) -> mx.array:
        return mx.array(pixels[None, ::8, ::8, 0].astype(np.float32))[:, None, None]

    def decode(self, latents: mx.array) -> mx.array:
        grey = mx.repeat(mx.repeat(latents[:, 0, 0], 8, axis=1), 8, axis=2)
        return mx.repeat(mx.round(grey).astype(mx.uint8)[..., None], 3, axis=-1)


def run(job: DrawingJob) -> list[list[Any]]:
    steps = []
    while (items := job.advance()) is not None:
        steps.append(list(items))
    return steps


def test_each_step_is_told_and_the_last_brings_the_picture() -> None:
    steps = run(DrawingJob(Grey(), Wish("90", (1,), 16, 16, 3, 0.0)))
    assert steps[:4] == [[Progress(step, 3)] for step in range(4)]
    [[picture]] = steps[4:]
    assert isinstance(picture, Picture)
    assert picture.index == 0
    assert (picture.pixels == 90).all()


def test_pictures_of_a_request_share_the_prompt_and_the_passes() -> None:
    grey = Grey()
    steps = run(DrawingJob(grey, Wish("90", (1, 2, 3), 16, 16, 2, 0.0)))
    assert grey.prompts == ["90"]
    assert grey.batches == [3, 3]
    assert [item.index for items in steps for item in items if isinstance(item, Picture)] == [0, 1, 2]


def test_pictures_that_are_too_large_together_come_one_after_the_other() -> None:
    grey = Grey()
    job = DrawingJob(grey, Wish("90", (1, 2, 3), TOGETHER_PIXELS // 1024, 512, 1, 0.0))
    steps = run(job)
    assert grey.batches == [2, 1]
    assert job.total_steps == 2
    assert [item.index for items in steps for item in items if isinstance(item, Picture)] == [0, 1, 2]


def test_a_negative_prompt_is_read_only_with_guidance() -> None:
    for guidance, read in ((0.0, ["90"]), (1.0, ["90"]), (3.0, ["90", "5"])):
        grey = Grey()
        run(DrawingJob(grey, Wish("90", (1,), 16, 16, 1, guidance, negative_prompt="5")))
        assert grey.prompts == read


def test_a_dropped_job_computes_nothing_more() -> None:
    grey = Grey()
    job = DrawingJob(grey, Wish("90", (1,), 16, 16, 5, 0.0))
    job.advance()
    job.advance()
    assert job.steps_done == 1
    del job
    assert grey.batches == [1]


def test_unfinished_pictures_are_without_noise_and_numbered() -> None:
    steps = run(DrawingJob(Grey(), Wish("90", (200, 10), 16, 16, 6, 0.0), partials=2))
    partials = [item for items in steps for item in items if isinstance(item, Partial)]
    assert [(each.index, each.number) for each in partials] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert all((each.pixels == 90).all() for each in partials)


@pytest.mark.parametrize(
    ("steps", "partials", "expected"),
    [(9, 0, []), (8, 1, [4]), (8, 3, [2, 4, 6]), (3, 3, [0, 1]), (1, 3, [])],
)
def test_partial_steps_are_spread_and_never_the_last(steps: int, partials: int, expected: list[int]) -> None:
    assert partial_steps(steps, partials) == expected


def test_a_changed_picture_begins_with_its_source() -> None:
    grey = Grey()
    source = Source(np.full((16, 16, 3), 40, np.uint8))
    job = DrawingJob(grey, Wish("90", (200,), 16, 16, 4, 0.0, source=source))
    [*_, [picture]] = run(job)
    assert job.total_steps == 2
    assert (picture.pixels == 90).all()


def test_a_mask_keeps_the_sources_own_pixels() -> None:
    pixels = np.arange(16 * 16 * 3, dtype=np.uint32).reshape(16, 16, 3).astype(np.uint8)
    mask = np.zeros((16, 16), np.bool_)
    mask[:4, :8] = True
    wish = Wish("90", (200,), 16, 16, 4, 0.0, source=Source(pixels, mask))
    [*_, [picture]] = run(DrawingJob(Grey(), wish))
    assert (picture.pixels[mask] == 90).all()
    assert (picture.pixels[~mask] == pixels[~mask]).all()
