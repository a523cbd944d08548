"""Models on disk, read without being loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter
from safetensors.numpy import save_file
from support.servers import ROOT

from mlx_server.app.catalog.model_facts import Kind, NotAModel
from mlx_server.app.catalog.model_folder import find_models, read_model


def make(folder: Path, config: Any = None, **tensors: np.ndarray[Any, Any]) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config or {"model_type": "llama"}))
    save_file(tensors or {"w": np.zeros((3, 4), np.float16)}, folder / "model.safetensors")
    return folder


def make_gguf(path: Path) -> Path:
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_embedding_length(32)
    writer.add_context_length(512)
    writer.add_file_type(3)
    writer.add_token_list(["a", "b", "ü"])
    writer.add_token_scores([0.0, 1.0, 2.0])
    writer.add_name("small")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_folder_tells_the_size_of_its_weights(tmp_path: Path) -> None:
    model = read_model(make(tmp_path / "m", None, a=np.zeros((3, 4), np.float16), b=np.zeros(5, np.float32)))
    assert (model.kind, model.architecture) == (Kind.LANGUAGE, "llama")
    assert (model.weight_bytes, model.parameters) == (3 * 4 * 2 + 5 * 4, 17)


def test_packed_weights_count_as_the_numbers_they_hold(tmp_path: Path) -> None:
    packed = {
        "l.weight": np.zeros((8, 8), np.uint32),  # 8 rows of 64 4-bit numbers
        "l.scales": np.zeros((8, 1), np.float16),
        "l.biases": np.zeros((8, 1), np.float16),
        "norm.weight": np.zeros(64, np.float16),
    }
    model = read_model(make(tmp_path / "m", {"quantization": {"bits": 4, "group_size": 64}}, **packed))
    assert (model.quantisation, model.parameters) == ("4-bit", 8 * 64 + 64)


def test_pooling_makes_an_embedding_model(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", {"model_type": "qwen3"})
    (folder / "modules.json").write_text("[]")
    assert read_model(folder).kind is Kind.EMBEDDING


def test_gguf_file_is_read_by_its_header(tmp_path: Path) -> None:
    model = read_model(make_gguf(tmp_path / "small.gguf"))
    assert (model.kind, model.architecture, model.quantisation) == (Kind.LANGUAGE, "llama", "Q4_1")
    assert (model.context_length, model.kv_bytes_per_token) == (512, 2 * 2 * 2 * 2 * 8)


@pytest.mark.parametrize("cut", [0, 3, 23, 40, 100])
def test_gguf_file_that_was_cut_off_is_no_model(tmp_path: Path, cut: int) -> None:
    path = make_gguf(tmp_path / "small.gguf")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(NotAModel, match=r"small\.gguf is not a model"):
        read_model(path)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("config.json", b"", "can't be read"),
        ("config.json", b"[]", "no JSON object"),
        ("config.json", b"\xff\xfe", "can't be read"),
        ("model.safetensors", b"", "no safetensors file"),
        ("model.safetensors", (1 << 60).to_bytes(8, "little"), "no safetensors file"),
        ("model.safetensors", (2).to_bytes(8, "little") + b"[]", "no safetensors file"),
        ("model.safetensors", (7).to_bytes(8, "little") + b'{"a":1}', "no safetensors file"),
    ],
)
def test_broken_file_is_named(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    folder = make(tmp_path / "m")
    (folder / name).write_bytes(content)
    with pytest.raises(NotAModel, match=why):
        read_model(folder)


def test_models_are_found_in_folders_of_folders(tmp_path: Path) -> None:
    first = make(tmp_path / "a" / "b" / "one")
    second = make_gguf(tmp_path / "two.gguf")
    make(tmp_path / ".hidden")
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (make(tmp_path / "bad") / "config.json").write_text("{")
    assert [model.path for model in find_models(tmp_path)] == [first, second]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlx_server.app", "models", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


def test_command_lists_and_shows_models(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", {"model_type": "qwen3_vl", "vision_config": {}, "max_position_embeddings": 4096})
    listed = run("list", tmp_path)
    assert listed.returncode == 0
    assert "qwen3_vl" in listed.stdout
    assert "4,096" in listed.stdout
    assert "--model-type vlm" in run("show", folder).stdout


def test_command_says_what_is_no_model(tmp_path: Path) -> None:
    done = run("show", tmp_path)
    assert done.returncode == 3
    assert "it has no config.json" in done.stderr
    assert run("list", tmp_path).stdout == "No models there.\n"


def test_gguf_file_tells_how_many_numbers_its_tensors_hold(tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_tensor("a", np.zeros((32, 64), np.float32))
    writer.add_tensor("b", np.zeros(16, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read_model(path).parameters == 32 * 64 + 16
