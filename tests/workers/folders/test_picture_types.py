"""Folders in Diffusers' layout, recognised and weighed without MLX."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from mlx_server.workers.folders.model_files import NotAModel
from mlx_server.workers.folders.picture_memory import read_drawing_size, step_bytes
from mlx_server.workers.folders.picture_types import check_pictures, draws

INDEX = {"_class_name": "ZImagePipeline"}


def write(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def write_weights(file: Path, numbers: int) -> None:
    """A safetensors file with one tensor of halves."""
    header = json.dumps({"weight": {"dtype": "F16", "shape": [numbers], "data_offsets": [0, 2 * numbers]}}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(2 * numbers))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "model_index.json", INDEX)
    write(tmp_path / "scheduler" / "scheduler_config.json", {"shift": 3.0})
    write(tmp_path / "tokenizer" / "tokenizer.json", {})
    write(tmp_path / "tokenizer" / "tokenizer_config.json", {})
    for part in ("text_encoder", "transformer", "vae"):
        write(tmp_path / part / "config.json", {"dim": 64} if part == "transformer" else {})
        write_weights(tmp_path / part / "diffusion_pytorch_model.safetensors", 10)
    return tmp_path


def test_a_pipeline_is_recognised_by_its_class(folder: Path) -> None:
    assert draws(folder) == check_pictures(folder) == "z_image"


@pytest.mark.parametrize("index", [{"_class_name": "StableDiffusionPipeline"}, {}, [], None])
def test_what_is_not_served_draws_nothing(tmp_path: Path, index: object) -> None:
    if index is not None:
        write(tmp_path / "model_index.json", index)
    assert draws(tmp_path) is None


def test_a_pipeline_that_is_not_served_is_named(folder: Path) -> None:
    write(folder / "model_index.json", {"_class_name": "StableDiffusionPipeline"})
    with pytest.raises(NotAModel, match="names StableDiffusionPipeline, and those that draw here are Flux2Klein"):
        check_pictures(folder)


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("vae/config.json", "no config.json"),
        ("transformer/diffusion_pytorch_model.safetensors", "transformer holds no weights"),
        ("tokenizer/tokenizer.json", "no tokenizer/tokenizer.json"),
        ("scheduler/scheduler_config.json", "no scheduler/scheduler_config.json"),
    ],
)
def test_a_missing_part_is_named(folder: Path, missing: str, says: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(NotAModel, match=says):
        check_pictures(folder)


def test_weights_of_all_parts_count(folder: Path) -> None:
    size = read_drawing_size(folder)
    assert (size.stored_bytes, size.parameters, size.quantisation) == (60, 30, None)


def test_the_bits_of_packed_weights_are_told(folder: Path) -> None:
    write(folder / "transformer" / "model.safetensors.index.json", {"metadata": {"quantization_level": "8"}})
    assert read_drawing_size(folder).quantisation == "8-bit"


def test_a_step_grows_with_the_picture() -> None:
    transformer, vae = {"dim": 3840, "intermediate_size": 10240}, {"block_out_channels": [128, 256, 512, 512]}
    small, large = (step_bytes(transformer, vae, side, side) for side in (512, 1024))
    assert 3 * small < large <= 4 * small
    assert 1 << 30 < large < 8 << 30


def test_a_step_of_a_picture_of_usual_size_counts(folder: Path) -> None:
    usual = read_drawing_size(folder).step_bytes
    write(folder / "vae" / "config.json", {"sample_size": 64})
    assert read_drawing_size(folder).step_bytes < usual / 100
