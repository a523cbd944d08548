"""What a configuration says a model is for."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_server.app.catalog.classify import (
    classify,
    head_bytes_per_token,
    kv_bytes_per_token,
    quantisation,
    window_share,
)
from mlx_server.app.catalog.kinds import Kind

LLAMA = {"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 576}


@pytest.mark.parametrize(
    ("config", "pooled", "kind"),
    [
        ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, False, Kind.LANGUAGE),
        ({"model_type": "qwen3"}, True, Kind.EMBEDDING),
        ({"model_type": "bert", "architectures": ["BertModel"]}, False, Kind.EMBEDDING),
        ({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}, True, Kind.RERANKER),
        ({"model_type": "qwen3_vl", "vision_config": {}, "text_config": {}}, False, Kind.VISION),
        ({"model_type": "gemma3n", "vision_config": {}, "audio_config": {}}, False, Kind.VISION),
        (
            {"model_type": "qwen3_5", "vision_config": None, "audio_config": None, "text_config": {}},
            False,
            Kind.LANGUAGE,
        ),
        ({"model_type": "whisper"}, False, Kind.AUDIO),
        ({"model_type": "qwen3_asr", "audio_config": {}}, False, Kind.AUDIO),
        ({"_class_name": "FluxTransformer2DModel"}, False, Kind.IMAGE),
        ({"architectures": 1}, False, Kind.LANGUAGE),
        ({"model_type": [1]}, False, Kind.LANGUAGE),
        ({}, False, Kind.LANGUAGE),
    ],
)
def test_kind_follows_from_the_configuration(config: dict[str, Any], pooled: bool, kind: Kind) -> None:
    assert classify(config, pooled=pooled) is kind


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"quantization": {"bits": 4, "group_size": 64}}, ("4-bit", 4)),
        ({"quantization_config": {"quant_method": "awq", "bits": 8}}, ("8-bit", 8)),
        ({"quantization_config": {"quant_method": "fp8"}}, ("fp8", None)),
        ({"torch_dtype": "bfloat16"}, ("bfloat16", None)),
        ({"text_config": {"dtype": "float16"}}, ("float16", None)),
        ({}, (None, None)),
    ],
)
def test_quantisation_is_told_with_its_bits(config: dict[str, Any], expected: tuple[str | None, int | None]) -> None:
    assert quantisation(config) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LLAMA, 2 * 2 * 30 * 3 * 64),
        ({**LLAMA, "head_dim": 128}, 2 * 2 * 30 * 3 * 128),
        ({"n_layer": 12, "n_head": 12, "n_embd": 768}, 2 * 2 * 12 * 768),
        ({"text_config": LLAMA}, 2 * 2 * 30 * 3 * 64),
        ({**LLAMA, "kv_lora_rank": 512, "qk_rope_head_dim": 64}, 2 * 30 * 576),
        ({"num_hidden_layers": 2}, None),
        ({}, None),
    ],
)
def test_kv_cache_of_a_token_is_layers_times_heads_times_width(config: dict[str, Any], expected: int | None) -> None:
    assert kv_bytes_per_token(config) == expected


ONE_LAYER = {**LLAMA, "num_hidden_layers": 1}
OWN = 2 * 2 * 3 * 64
"""What a layer of its own keeps of a token."""


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"transformer_layer_config": ONE_LAYER}, 2 * 3 * 576 + OWN),
        ({"transformer_layer_config": ONE_LAYER, "target_hidden_size": 64}, 2 * 3 * 64 + OWN),
        ({**ONE_LAYER, "dflash_config": {"target_layer_ids": [1, 8]}}, 2 * 2 * 576 + OWN),
        ({"text_config": {**LLAMA, "mtp_num_hidden_layers": 2}}, 2 * 576 + 2 * OWN),
        ({**LLAMA}, 2 * 576 + OWN),
        ({}, None),
    ],
    ids=["eagle3", "of-another-width", "dflash", "mtp", "its-model", "nothing"],
)
def test_a_head_keeps_hidden_states_and_its_own(config: dict[str, Any], expected: int | None) -> None:
    assert head_bytes_per_token(config) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LLAMA, 0.0),
        ({"layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]}, 0.5),
        ({"text_config": {"sliding_window": 512, "sliding_window_pattern": 6, "num_hidden_layers": 26}}, 22 / 26),
        ({"sliding_window": None, "sliding_window_pattern": 6}, 0.0),
    ],
)
def test_the_share_of_windows_is_that_of_layers(config: dict[str, Any], expected: float) -> None:
    assert window_share(config) == expected
