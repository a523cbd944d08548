"""FLUX.2 drawn step by step, compared with mlx-vlm's own loop over the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from drawing.folder import write_tokenizer
from PIL import Image
from support.drawn import ONE_LEVEL, difference, drawn
from support.tiny.flux2 import make_flux2

from mlx_server.workers.engine.draw.flux2 import text_encoder_names, transformer_names, vae_names
from mlx_server.workers.engine.draw.loading import load
from mlx_server.workers.engine.draw.wish import Source, Wish
from mlx_server.workers.errors import ModelLoadError

pytestmark = pytest.mark.model


@pytest.fixture(scope="module", params=[1.0, 4.0], ids=["distilled", "guided"])
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, float]:
    """The family, mlx-vlm's pipeline and the guidance."""
    family, pipeline = make_flux2(tmp_path_factory.mktemp("flux2"), guided=request.param > 1)
    return family, pipeline, request.param


def test_a_picture_is_the_librarys(models: tuple[Any, Any, float]) -> None:
    family, pipeline, guidance = models
    theirs = pipeline.generate_array("a red circle", seed=5, steps=2, width=256, height=272, guidance=guidance)
    [ours] = drawn(family, Wish("a red circle", (5,), 256, 272, 2, guidance))
    assert ours.shape == (272, 256, 3)
    assert difference(ours, np.array(theirs)) <= ONE_LEVEL


def test_a_changed_picture_is_the_librarys(models: tuple[Any, Any, float], tmp_path: Path) -> None:
    family, pipeline, guidance = models
    pixels = np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "source.png")
    theirs = pipeline.edit_array("blue", [tmp_path / "source.png"], seed=3, steps=2, guidance=guidance)
    [ours] = drawn(family, Wish("blue", (3,), 256, 256, 2, guidance, source=Source(pixels)))
    assert difference(ours, np.array(theirs)) <= ONE_LEVEL


def test_pictures_are_drawn_together_as_alone(models: tuple[Any, Any, float]) -> None:
    family, _, guidance = models
    pixels = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)
    together = drawn(family, Wish("red", (5, 6), 64, 64, 1, guidance, source=Source(pixels)))
    [alone] = drawn(family, Wish("red", (6,), 64, 64, 1, guidance, source=Source(pixels)))
    assert difference(together[1], alone) <= ONE_LEVEL
    assert difference(together[0], together[1]) > ONE_LEVEL


def test_only_what_was_not_distilled_is_guided(models: tuple[Any, Any, float]) -> None:
    family, pipeline, guidance = models
    assert family.limits.guided == (guidance > 1)
    assert family.defaults.steps == pipeline.variant.default_steps


def test_weights_are_called_as_the_library_calls_them() -> None:
    assert text_encoder_names(["model.layers.0.mlp.up_proj.weight"]) == {"layers.0.mlp.up_proj.weight"}
    assert transformer_names(
        ["time_guidance_embed.timestep_embedder.linear_1.weight", "transformer_blocks.0.attn.to_out.0.weight"]
    ) == {"time_guidance_embed.linear_1.weight", "transformer_blocks.0.attn.to_out.weight"}
    assert vae_names(["decoder.mid_block.attentions.0.to_out.0.bias"]) == {"decoder.mid_block.attentions.0.to_out.bias"}


def write_folder(folder: Path) -> Path:
    """A folder of FLUX.2's whose networks have one weight each."""
    folder.mkdir()
    write_tokenizer(folder / "tokenizer")
    (folder / "model_index.json").write_text('{"_class_name": "Flux2KleinPipeline"}')
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    for part in ("text_encoder", "transformer", "vae"):
        (folder / part).mkdir()
        (folder / part / "config.json").write_text("{}")
        mx.save_safetensors(str(folder / part / "model.safetensors"), {"model.norm.weight": mx.zeros((2560,))})
    return folder


def test_a_folder_of_no_known_variant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="Could not infer Flux2 variant"):
        load(write_folder(tmp_path / "model"), "auto", lambda _: None)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"text_encoder is not whole: \S+ and \d+ more weights are missing"):
        load(write_folder(tmp_path / "klein-4b"), "auto", lambda _: None)
