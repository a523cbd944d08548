"""What a model needs, by what its files say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlx_server.app.catalog.kinds import Kind
from mlx_server.app.catalog.memory_verdict import fits_message
from mlx_server.app.catalog.model_facts import ModelOnDisk
from mlx_server.app.config.settings import ModelSettings, ModelType
from mlx_server.app.fleet import memory_estimate
from mlx_server.app.fleet.memory import serving_of
from mlx_server.app.fleet.memory_estimate import Serving, estimate_of, scripted_estimate
from mlx_server.app.machine.device import Device
from mlx_server.schemas.internal.state_bits import StateBits

GB = 1 << 30
CPU = Device("cpu", 64 * GB, 60 * GB)
PACKING = replace(CPU, packs=True)
METAL = Device("metal", 64 * GB, 60 * GB)
CUDA = Device("cuda", 80 * GB, 80 * GB)

QUANTISED = ModelOnDisk(Path("m"), Kind.LANGUAGE, "llama", "4-bit", 500, 1000, 4096, 10)
LARGE = replace(QUANTISED, parameters=memory_estimate.PACKED_FROM)
GGUF = replace(QUANTISED, path=Path("m.gguf"))
DRAFT = replace(QUANTISED, weight_bytes=50, parameters=100, kv_bytes_per_token=1)


@pytest.mark.parametrize(
    ("model", "device", "weights"),
    [
        (QUANTISED, CPU, 4000),
        (LARGE, PACKING, 625),
        (QUANTISED, PACKING, 4000),
        (replace(QUANTISED, parameters=None), PACKING, 625),
        (replace(QUANTISED, quantisation="3-bit"), PACKING, 4000),
        (QUANTISED, METAL, 500),
        (QUANTISED, CUDA, 500),
        (GGUF, CPU, 4000),
        (GGUF, PACKING, 4000),
        (GGUF, METAL, 2000),
        (GGUF, CUDA, 4000),
        # Nothing is known but the file's size, of which a byte may stand for two numbers at most.
        (replace(QUANTISED, parameters=None), METAL, 500),
    ],
)
def test_weights_are_as_large_as_the_device_makes_them(model: ModelOnDisk, device: Device, weights: int) -> None:
    assert estimate_of(model, Serving("lm", 1), device).weights == weights


def test_cpu_that_keeps_weights_as_they_are_needs_what_is_stored() -> None:
    found = estimate_of(QUANTISED, Serving("lm", 1, cpu_dtype="native"), CPU)
    assert found.weights == 500
    assert found.cpu_dtype == "native"


@pytest.mark.parametrize(
    ("dtype", "limit", "expected"),
    [("auto", 2**40, "auto"), ("auto", 1, "native"), ("auto", None, "auto"), ("float32", 1, "float32")],
)
def test_weights_stay_as_stored_where_float32_would_break_the_limit(
    dtype: memory_estimate.CpuDtype, limit: int | None, expected: str
) -> None:
    assert estimate_of(QUANTISED, Serving("lm", 1, cpu_dtype=dtype), CPU, limit).cpu_dtype == expected


@pytest.mark.parametrize(
    ("model", "dtype", "limit", "expected", "weights"),
    [
        (LARGE, "auto", 2**40, "auto", 625),
        (QUANTISED, "auto", 2**40, "auto", 4000),
        (QUANTISED, "auto", 1, "packed", 625),
        (QUANTISED, "packed", 1, "packed", 625),
        (QUANTISED, "float32", 1, "float32", 4000),
        (QUANTISED, "native", 1, "native", 500),
    ],
)
def test_weights_stay_packed_on_a_cpu_that_can_where_that_is_faster_or_has_to_be(
    model: ModelOnDisk, dtype: memory_estimate.CpuDtype, limit: int, expected: str, weights: int
) -> None:
    found = estimate_of(model, Serving("lm", 1, cpu_dtype=dtype), PACKING, limit)
    assert (found.cpu_dtype, found.weights) == (expected, weights)


@pytest.mark.parametrize(
    ("model", "device", "tokens_bytes"),
    [
        (QUANTISED, METAL, memory_estimate.SEQUENCE_TOKENS * 10),
        (QUANTISED, CPU, memory_estimate.SEQUENCE_TOKENS * 20),
        (replace(QUANTISED, context_length=100), METAL, 100 * 10),
        (replace(QUANTISED, context_length=None), METAL, memory_estimate.SEQUENCE_TOKENS * 10),
        (replace(QUANTISED, kv_bytes_per_token=None), METAL, 0),
    ],
)
def test_cache_has_room_for_usual_sequences_in_all_rows(model: ModelOnDisk, device: Device, tokens_bytes: int) -> None:
    found = estimate_of(model, Serving("lm", 8, cache_limit_bytes=7), device)
    assert found.cache == int(memory_estimate.CACHE_COPIES * 8 * tokens_bytes) + 7


@pytest.mark.parametrize(
    ("bits", "device", "token_bytes"),
    [
        pytest.param("8", METAL, 10 * 8.5 / 16, id="half-precision"),
        pytest.param("4", METAL, 10 * 4.5 / 16, id="four-bits"),
        pytest.param("8", CPU, 10 * 9 / 16, id="scales-in-float32"),
        pytest.param("4x2,8x2", METAL, 10 * 6.5 / 16, id="the-mean-of-layers"),
    ],
)
def test_quantised_states_take_less(bits: str, device: Device, token_bytes: float) -> None:
    model = replace(QUANTISED, kv_bytes_per_token=1600)
    found = estimate_of(model, Serving("lm", 1, kv_bits=StateBits.parse(bits)), device)
    tokens = memory_estimate.SEQUENCE_TOKENS
    assert found.cache == int(memory_estimate.CACHE_COPIES * int(160 * token_bytes) * tokens)


def test_states_in_windows_stay_as_they_are() -> None:
    model, eight = replace(QUANTISED, kv_bytes_per_token=1600, window_share=0.75), StateBits((8,))
    assert memory_estimate.token_bytes(model, wide=True, bits=eight) == int(3200 * (0.75 + 0.25 * 9 / 32))
    assert memory_estimate.token_bytes(model, wide=False, bits=eight) == int(1600 * (0.75 + 0.25 * 8.5 / 16))
    assert memory_estimate.token_bytes(model, wide=True) == 3200


@pytest.mark.parametrize("model_type", ["embeddings", "rerank"])
def test_models_that_write_nothing_keep_no_cache(model_type: str) -> None:
    assert estimate_of(QUANTISED, Serving(model_type, 256), METAL).cache == 0


def test_replicas_need_everything_once_each() -> None:
    one, three = (estimate_of(QUANTISED, Serving("lm", 8, replicas), METAL) for replicas in (1, 3))
    assert three.total == 3 * one.total
    assert scripted_estimate(2).total == 2 * memory_estimate.SCRIPTED_BYTES


def test_draft_model_is_counted_with_its_cache() -> None:
    alone = estimate_of(QUANTISED, Serving("lm", 2), METAL)
    both = estimate_of(QUANTISED, Serving("lm", 2, drafts=[DRAFT]), METAL)
    assert both.weights == 550
    assert both.cache > alone.cache


@pytest.mark.parametrize(
    ("device", "limit"),
    [
        (Device("cpu", 10 * GB, 1), 8 * GB),
        (Device("cuda", 80 * GB, 1), 64 * GB),
        (Device("metal", 18 * GB, 1), 12 * GB),
        (Device("metal", 64 * GB, 1), 48 * GB),
        (Device("metal", 64 * GB, 1, 60 * GB), 60 * GB),
        (Device("metal", 16 * GB, 1, 60 * GB), 16 * GB),
    ],
)
def test_limit_is_a_share_of_what_the_device_has(device: Device, limit: int) -> None:
    assert device.limit_bytes == limit


@pytest.mark.parametrize(
    ("available", "required", "message"),
    [
        (18.5, 40.2, "❌ Insufficient memory - 18.5GB available, 40.2GB required"),
        (18.5, 2.5, "✅ Compatible - 18.5GB available, 2.5GB required"),
    ],
)
def test_verdict_is_in_words_that_clients_know(available: float, required: float, message: str) -> None:
    assert fits_message(int(available * GB), int(required * GB)) == message


@pytest.mark.parametrize(
    ("context", "limited", "limit", "kept"),
    [
        pytest.param(4096, None, None, GB, id="usually"),
        pytest.param(1 << 28, None, None, (1 << 28) * 10, id="a-conversation-where-that-is-more"),
        pytest.param(1 << 28, 1 << 27, None, (1 << 27) * 10, id="of-the-context-that-is-allowed"),
        pytest.param(1 << 28, None, 2 * GB, None, id="but-a-quarter-of-what-the-limit-leaves"),
        pytest.param(4096, None, 1, 0, id="which-may-be-nothing"),
    ],
)
def test_what_is_kept_by_itself_is_granted_before(
    context: int, limited: int | None, limit: int | None, kept: int | None
) -> None:
    model = replace(QUANTISED, context_length=context)
    serving = Serving("lm", 1, replicas=2, context_length=limited)
    bare = estimate_of(model, serving, METAL, limit)
    found = estimate_of(model, replace(serving, auto_prefixes=True), METAL, limit)
    assert bare.prefixes is None
    expected = (limit - bare.total) // 4 // 2 if kept is None and limit is not None else kept
    assert found.prefixes == expected
    assert found.total - bare.total == 2 * (expected or 0)


@pytest.mark.parametrize(("model_type", "kept_mb"), [("lm", 1000), ("vlm", 1200), ("embeddings", 0), ("rerank", 0)])
def test_what_is_kept_of_prompts_and_pictures_counts(model_type: ModelType, kept_mb: int) -> None:
    settings = ModelSettings("model", prefix_cache_bytes=1000 << 20, feature_cache_bytes=200 << 20)
    assert serving_of(settings, model_type).cache_limit_bytes == kept_mb << 20
    assert not serving_of(settings, model_type).auto_prefixes
    assert serving_of(ModelSettings("model"), model_type).auto_prefixes is (model_type in ("lm", "vlm"))
