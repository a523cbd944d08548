"""What a configuration says a model is for."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_server.app.catalog.classify import classify, kv_bytes_per_token, quantisation
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
