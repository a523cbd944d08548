"""What is said of a repository follows from what the hub tells of it."""

from typing import Any

import pytest
from huggingface_hub.hf_api import ModelInfo

from mlx_server.app.hub import facts
from mlx_server.app.hub.model import WORKER_BYTES, HubModel
from mlx_server.app.machine.sizes import memory_size, people_count, size

LLAMA = {
    "id": "mlx-community/Llama-3.2-3B-Instruct-4bit",
    "author": "mlx-community",
    "downloads": 12543,
    "likes": 89,
    "library_name": "mlx",
    "pipeline_tag": "text-generation",
    "tags": ["mlx", "llama", "base_model:meta-llama/Llama-3.2-3B-Instruct", "4-bit"],
    "createdAt": "2024-12-01T10:00:00.000Z",
    "lastModified": "2025-01-01T12:00:00.000Z",
    "config": {"model_type": "llama", "quantization_config": {"bits": 4}},
    "safetensors": {"parameters": {"U32": 401_569_792, "F16": 100_571_136}, "total": 502_140_928},
}


def model(**other: Any) -> HubModel:
    return facts.model_of(ModelInfo(**{**LLAMA, **other}))


def test_a_packed_model_is_described_by_its_metadata() -> None:
    found = model()
    assert (found.name, found.author) == ("Llama-3.2-3B-Instruct-4bit", "mlx-community")
    assert found.model_type == "text"
    assert found.quantisation == "4-bit"
    assert found.parameters == pytest.approx(3.213e9, rel=1e-3)
    assert found.size_bytes == 401_569_792 * 4 + 100_571_136 * 2
    assert found.estimated_memory_bytes == int(found.size_bytes * 1.2) + WORKER_BYTES
    assert found.memory_fit(2_600_000_000)
    assert not found.memory_fit(2_400_000_000)
    assert found.mlx_compatible
    assert found.has_mlx_version
    assert found.mlx_repo_id is None
    assert found.base_model == "meta-llama/Llama-3.2-3B-Instruct"
    assert found.description == (
        "Text generation model: llama, 3.2B parameters, 4-bit; made from meta-llama/Llama-3.2-3B-Instruct"
    )


def test_sizes_of_files_are_better_than_those_of_weights() -> None:
    siblings = [
        {"rfilename": "model.safetensors", "size": 1000, "blobId": "a" * 40},
        {"rfilename": "config.json", "size": 10, "blobId": "b" * 40},
        {"rfilename": "pytorch_model.bin", "size": 5000, "blobId": "c" * 40},
    ]
    assert model(siblings=siblings).size_bytes == 1010


def test_what_the_hub_does_not_tell_is_not_made_up() -> None:
    bare = facts.model_of(ModelInfo(id="someone/model"))
    assert (bare.size_bytes, bare.estimated_memory_bytes, bare.parameters) == (None, None, None)
    assert bare.memory_fit(1) is None
    assert not bare.has_mlx_version
    assert model(safetensors={"parameters": {"F6": 10}, "total": 10}).size_bytes is None


@pytest.mark.parametrize(
    ("tag", "config", "expected"),
    [
        ("image-text-to-text", {}, "vision"),
        ("any-to-any", {}, "multimodal"),
        ("sentence-similarity", {}, "embedding"),
        ("automatic-speech-recognition", {}, "audio"),
        (None, {"model_type": "whisper"}, "audio"),
        (None, {"model_type": "qwen2_vl", "vision_config": {}}, "vision"),
        (None, {"architectures": ["BertForSequenceClassification"]}, "reranker"),
        (None, {}, "text"),
    ],
)
def test_the_type_is_that_of_the_tag_or_of_the_configuration(
    tag: str | None, config: dict[str, Any], expected: str
) -> None:
    assert model(pipeline_tag=tag, config=config).model_type == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/Qwen3-0.6B-8bit", "8-bit"),
        ("a/Qwen3-0.6B-q6", "6-bit"),
        ("a/gpt-oss-20b-MXFP4", "mxfp4"),
        ("a/Qwen3-0.6B-bf16", "bf16"),
        ("a/Qwen3-0.6B", None),
    ],
)
def test_quantisation_is_read_from_a_name_where_nothing_better_is_known(name: str, expected: str | None) -> None:
    assert model(id=name, config={}, tags=["mlx"]).quantisation == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/Qwen3-0.6B-4bit", 600_000_000),
        ("a/SmolLM2-135M", 135_000_000),
        ("a/Mixtral-8x7B", 56_000_000_000),
        ("a/Qwen3-30B-A3B", 30_000_000_000),
        ("a/Phi-3.5-mini-4bit", None),
    ],
)
def test_parameters_are_read_from_a_name_where_nothing_better_is_known(name: str, expected: int | None) -> None:
    assert model(id=name, safetensors=None).parameters == expected


def test_counts_are_told_as_people_do() -> None:
    assert [people_count(count) for count in (135_000_000, 7_000_000_000, 3_212_749_888)] == ["135M", "7B", "3.2B"]


@pytest.mark.parametrize(
    ("count", "of_a_file", "of_memory"),
    [
        (0, "0 B", "0 B"),
        (999, "999 B", "999 B"),
        (1000, "1 kB", "1000 B"),
        (999_999, "1 MB", "977 KiB"),
        (1 << 29, "537 MB", "512 MiB"),
        (16 << 30, "17.2 GB", "16.0 GiB"),
        (20 * 10**12, "20000.0 GB", "18626.5 GiB"),
    ],
)
def test_bytes_are_told_in_the_units_of_files_and_of_memory(count: int, of_a_file: str, of_memory: str) -> None:
    assert (size(count), memory_size(count)) == (of_a_file, of_memory)
