"""Models on disk, read without being loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from support.tiny.folders import make, make_gguf
from support.tiny.gguf_files import spread, write_gguf

from mlx_server.app.catalog.kinds import Kind
from mlx_server.app.catalog.model_folder import find_models, read_model
from mlx_server.workers.folders.model_files import NotAModel


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


def test_context_is_no_longer_than_what_sentence_transformers_cut_to(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", {"model_type": "bert", "max_position_embeddings": 512})
    assert read_model(folder).context_length == 512
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    assert read_model(folder).context_length == 256


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


def test_gguf_model_in_parts_is_one_model_as_large_as_all_of_them(tmp_path: Path) -> None:
    whole = read_model(write_gguf(tmp_path / "whole.gguf"))
    (tmp_path / "parts").mkdir()
    write_gguf(tmp_path / "parts" / "tiny.gguf", parts_of=4)
    parts = spread(tmp_path / "parts" / "tiny.gguf", 3)
    (found,) = find_models(tmp_path / "parts")
    assert found.path == parts[0]
    assert found.parameters == whole.parameters
    assert found.weight_bytes == sum(part.stat().st_size for part in parts)
    assert replace(found, path=whole.path, weight_bytes=whole.weight_bytes) == whole


def test_gguf_model_that_lacks_a_part_is_no_model_and_names_it(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", parts_of=4)
    first, second, third = spread(tmp_path / "tiny.gguf", 3)
    third.unlink()
    for part in (first, second):
        with pytest.raises(NotAModel, match=rf"missing beside it: {third.name}"):
            read_model(part)
    assert list(find_models(tmp_path)) == []
