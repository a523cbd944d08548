"""Models that draw, on disk: a folder in Diffusers' layout has no config.json of its own."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_server.app.catalog.hub_cache import complete
from mlx_server.app.catalog.kinds import Kind
from mlx_server.app.catalog.model_folder import find_models, read_model
from mlx_server.app.fleet.memory_estimate import Serving, estimate_of
from mlx_server.app.machine.device import Device
from mlx_server.workers.folders.model_files import NotAModel

MODEL = Path(__file__).parents[2] / "drawing" / "model"
CPU = Device("cpu", 64 << 30, 60 << 30)
METAL = Device("metal", 64 << 30, 60 << 30)


def test_a_pipeline_is_a_model_that_draws() -> None:
    model = read_model(MODEL)
    assert (model.kind, model.architecture, model.quantisation) == (Kind.IMAGE, "ZImagePipeline", None)
    assert model.parameters is not None
    assert 2 * model.parameters == model.weight_bytes
    assert [found.path for found in find_models(MODEL.parent)] == [MODEL]


def test_a_step_counts_in_what_it_needs() -> None:
    model = read_model(MODEL)
    assert model.step_bytes is not None
    need = estimate_of(model, Serving("image", 4), CPU)
    assert need.weights == 2 * model.weight_bytes
    assert need.overhead > model.step_bytes > 0


def test_a_cpu_unfolds_convolutions() -> None:
    model = replace(read_model(MODEL), step_bytes=1 << 30)
    on_cpu, on_metal = (estimate_of(model, Serving("image", 4), device).overhead for device in (CPU, METAL))
    assert on_cpu - on_metal > 2 << 30


def test_a_pipeline_that_is_not_served_has_only_a_size(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "a.safetensors").write_bytes(bytes(100))
    model = read_model(tmp_path)
    assert (model.kind, model.weight_bytes, model.step_bytes) == (Kind.IMAGE, 100, None)


def test_broken_weights_are_named(tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "model")
    (tmp_path / "model" / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"short")
    with pytest.raises(NotAModel, match=r"diffusion_pytorch_model\.safetensors is no safetensors file"):
        read_model(tmp_path / "model")


def test_a_snapshot_is_complete_with_all_networks(tmp_path: Path) -> None:
    folder = tmp_path / "snapshots" / "abc"
    shutil.copytree(MODEL, folder)
    (tmp_path / "refs").mkdir()
    (tmp_path / "refs" / "main").write_text("abc")
    assert complete(tmp_path) == folder
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert complete(tmp_path) is None
