"""The model that draws: what it is asked, how its pictures are judged, and how it is made."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from drawing.scenes import PLACES, WISHES, Wish, draw_scenes, held_out_prompts, trained_prompts
from shapes.draw import COLOURS, SHAPES, SIZE

HERE = Path(__file__).parent
MODEL = HERE / "model"
MB = 1_000_000


def test_a_seed_asks_for_the_same_pictures_every_time() -> None:
    assert held_out_prompts(20, 1) == held_out_prompts(20, 1)
    assert held_out_prompts(20, 1) != held_out_prompts(20, 2)


def test_what_is_held_out_is_never_trained_and_each_part_of_it_is() -> None:
    held_out = {prompt for wish in WISHES if wish.held_out for prompt in wish.prompts()}
    assert len(held_out) == 120
    trained: Counter[str] = Counter()
    for scene in islice(draw_scenes(random.Random(0)), 2000):
        prompts = trained_prompts(scene.shapes[0])
        assert held_out.isdisjoint(prompts)
        trained.update(word.strip(".:,") for prompt in prompts for word in prompt.split())
    assert {*COLOURS, *SHAPES, "left", "right", "top", "bottom"} <= set(trained)


def test_prompts_of_a_shape_are_fulfilled_by_it() -> None:
    [scene] = islice(draw_scenes(random.Random(1)), 1)
    shape = scene.shapes[0]
    for prompt in trained_prompts(shape):
        assert shape.colour in prompt
        assert shape.kind in prompt
    assert {"left", "right"} & {word for place in PLACES for word in place.split()}


def test_pixels_say_what_a_picture_shows() -> None:
    from drawing.judge import Seen, measure_pixels

    scenes = list(islice(draw_scenes(random.Random(2)), 100))
    right = []
    for scene in scenes:
        shape = scene.shapes[0]
        seen = measure_pixels(np.asarray(scene.image()))
        right.append(seen == Seen(shape.colour, shape.kind, frozenset((shape.side, shape.height))))
    assert sum(right) >= 97
    assert not measure_pixels(np.full((SIZE, SIZE, 3), 240, np.uint8)).placed(Wish("red", "circle", "left"))


def test_the_shipped_folder_is_small() -> None:
    assert sum(file.stat().st_size for file in MODEL.rglob("*") if file.is_file()) <= 16 * MB


@pytest.mark.model
def test_the_shipped_model_draws_what_it_was_never_asked_before() -> None:
    from drawing.measure import measure

    from mlx_server.workers.engine.runtime import platform

    platform.configure()
    shares = measure(MODEL, 40, seed=20_000).shares()
    assert min(shares["colour and place"]) >= 0.9, shares


@pytest.mark.model
def test_the_training_script_writes_a_folder_that_loads(tmp_path: Path) -> None:
    from drawing.measure import Painter

    steps = ("--small-steps", "2", "--large-steps", "1", "--flow-steps", "2", "--pictures", "40", "--held-out", "1")
    script = [sys.executable, HERE / "train.py", *steps, "--out", tmp_path]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "step 1 of 2, loss " in done.stdout
    assert "| colour and place |" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert Painter(tmp_path).draw("a red circle on the left", 1).shape == (SIZE, SIZE, 3)
