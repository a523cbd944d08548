"""Z-Image drawn step by step, compared with mlx-vlm's own loop over the same weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_vlm.generate.edit_image import edit_image, load_image_edit_model
from mlx_vlm.generate.image import generate_image, load_image_generation_model
from PIL import Image
from support.drawn import ONE_LEVEL, difference, drawn

from mlx_server.workers.engine.draw.loading import load
from mlx_server.workers.engine.draw.wish import Source, Wish
from mlx_server.workers.errors import ModelLoadError

pytestmark = pytest.mark.model


def wide(model: Any) -> Any:
    """The library's model in the precision in which the engine holds it on a CPU."""
    pipeline = model.pipeline
    pipeline._ensure_components()
    for part in (pipeline.text_encoder, pipeline.transformer, pipeline.vae):
        part.set_dtype(mx.float32)
    return model


def test_a_picture_is_the_librarys(folder: Path, family: Any) -> None:
    library = wide(load_image_generation_model(str(folder), evict_text_encoder=False))
    guidance = family.defaults.guidance
    theirs = generate_image(library, "a red circle", seed=5, steps=5, width=64, height=96)
    [ours] = drawn(family, Wish("a red circle", (5,), 64, 96, 5, guidance))
    assert ours.shape == (96, 64, 3)
    assert difference(ours, np.array(theirs.array)) <= ONE_LEVEL


def test_a_changed_picture_is_the_librarys(folder: Path, family: Any, tmp_path: Path) -> None:
    library = wide(load_image_edit_model(str(folder), evict_text_encoder=False))
    pixels = np.random.default_rng(1).integers(0, 256, (96, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "source.png")
    guidance = family.defaults.guidance
    theirs = edit_image(library, "a blue square", image_paths=[tmp_path / "source.png"], seed=3, steps=6, strength=0.6)
    [ours] = drawn(family, Wish("a blue square", (3,), 64, 96, 6, guidance, source=Source(pixels)))
    assert difference(ours, np.array(theirs.array)) <= ONE_LEVEL


def test_defaults_are_the_librarys(folder: Path, family: Any) -> None:
    library = load_image_generation_model(str(folder), evict_text_encoder=False)
    assert (family.defaults.steps, family.defaults.guidance) == (
        library.default_sampling.steps,
        library.default_sampling.guidance,
    )
    assert family.limits.guided == (library.variant != "turbo")


def test_neighbours_change_nothing(family: Any) -> None:
    together = drawn(family, Wish("a red circle", (5, 6, 7), 64, 64, 3, 0.0))
    [alone] = drawn(family, Wish("a red circle", (6,), 64, 64, 3, 0.0))
    assert difference(together[1], alone) <= ONE_LEVEL
    assert difference(together[0], together[1]) > 10


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """A folder that a test may spoil."""
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def test_weights_that_do_not_fit_are_refused_in_a_line(copied: Path) -> None:
    file = copied / "vae" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"latent_channels": 8}))
    with pytest.raises(ModelLoadError, match="can't be loaded"):
        load(copied, "auto", lambda _: None)


def test_missing_weights_are_named(copied: Path) -> None:
    file = copied / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = mx.load(str(file))
    del weights["all_x_embedder.2-1.weight"]
    mx.save_safetensors(str(file), weights)
    with pytest.raises(ModelLoadError, match=r"transformer is not whole: x_embedder\.weight is missing"):
        load(copied, "auto", lambda _: None)
