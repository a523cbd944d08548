"""Rotary positions: what transformers' own config classes write, against what mlx-lm's classes turn by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import _get_classes
from support.tiny.encoders import make_encoder
from support.tiny.models import make_model
from transformers import AutoConfig

from mlx_server.workers.engine.embed.encoder_models import read_encoder
from mlx_server.workers.engine.loading.config_form import suited
from mlx_server.workers.engine.loading.loading import read_model
from mlx_server.workers.engine.loading.rope import follows, placed, put_right, turning_of
from mlx_server.workers.engine.loading.rope_form import rope_by_type
from mlx_server.workers.engine.loading.turning import turning

pytestmark = pytest.mark.model

TYPES = """
    afmoe bitnet cohere cohere2 deepseek_v3 deepseek_v32 ernie4_5 ernie4_5_moe falcon_h1 gemma gemma2 gemma3 gemma3_text
    gemma3n gemma4 glm glm4 glm4_moe_lite gpt_neox gpt_oss granite granitemoe helium kimi_k25 laguna llama llama4
    llama4_text minimax_m3_vl ministral3 mistral mistral3 mistral4 mixtral olmo2 olmo3 olmo_hybrid olmoe phi qwen2
    qwen2_vl qwen3 qwen3_5 qwen3_5_moe qwen3_next qwen3_vl recurrent_gemma seed_oss smollm3 stablelm starcoder2
    """.split()  # noqa: SIM905 - a list would have a line for each
"""Those that both libraries have, as far as mlx-lm's class takes what transformers writes of them by default."""

SCALINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 2048, "attention_factor": 1.1, "truncate": False},
}
LLAMA3 = {"factor": 8.0, "original_max_position_embeddings": 2048, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
BASE = 31_337.0


def as_transformers_writes(model_type: str, scaling: str) -> dict[str, Any]:
    """A config whose bases and scaling are not its class's defaults; layers of each type have a base of their own."""
    config: dict[str, Any] = AutoConfig.for_model(model_type).to_dict()
    text = config["text_config"] if isinstance(config.get("text_config"), dict) else config
    given = text["rope_parameters"]
    scaled = {"rope_type": scaling, **SCALINGS[scaling]}
    if not any(isinstance(value, dict) for value in given.values()):
        text["rope_parameters"] = {**given, "type": scaling, "rope_theta": BASE, **scaled}
        return config
    for number, (kind, one) in enumerate(given.items(), 1):
        usual = kind != "full_attention" or (scaling == "default")
        given[kind] = {**one, "rope_theta": number * BASE, **({} if usual else scaled)}
    return config


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("model_type", TYPES)
def test_layers_turn_as_the_config_asks(model_type: str, scaling: str) -> None:
    config = as_transformers_writes(model_type, scaling)
    made, arguments = _get_classes(config)
    model = made(arguments.from_dict(config | suited(config)))  # nothing of it is computed, so nothing takes memory
    notes = put_right(model, config)
    text = config.get("text_config") or config
    by_type = rope_by_type(text)
    found = placed(model, text)
    asked = 0
    for kind, places in found.items():
        assert follows(places, text)
        for place in places:
            wanted = turning(by_type.get(kind) or by_type[""], place.dims, text.get("max_position_embeddings"))
            asked += wanted is not None
            assert wanted is None or turning_of(place.module).is_like(wanted), place.path
    assert asked
    assert not any("differ" in note for note in notes)


@pytest.mark.parametrize(
    ("parameters", "periods", "scale"),
    [
        (
            {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.25, "beta_fast": 16.0},
            [1.0, 3.6476, 13.305, 64.7083, 424.8542, 2582.8303, 9421.1309, 34364.5156],
            1.25,
        ),
        (
            {"rope_type": "yarn", "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 0.4},
            [1.0, 3.6476, 14.2785, 73.6336, 458.1762, 2582.8303, 9421.1309, 34364.5156],
            1.0394038,
        ),
        (
            {"rope_type": "llama3", **LLAMA3},
            [1.0, 3.6476, 13.305, 48.5313, 477.9548, 5165.6606, 18842.2617, 68729.0312],
            1.0,
        ),
        (
            {"rope_type": "linear", "factor": 8.0},
            [8.0, 29.1808, 106.4399, 388.2501, 1416.1808, 5165.6606, 18842.2617, 68729.0312],
            1.0,
        ),
        (
            {
                "rope_type": "yarn",
                "factor": 32.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "truncate": False,
                "original_max_position_embeddings": 4096,
                "rope_theta": 150_000.0,
            },
            [1.0, 4.4362, 19.6799, 147.1679, 2190.6577, 54980.2891, 243903.7188, 1082006.375],
            1.3465736,
        ),
    ],
    ids=["yarn", "yarn of DeepSeek", "llama3", "linear", "yarn of gpt-oss"],
)
def test_turning_is_what_transformers_computes(parameters: dict[str, Any], periods: list[float], scale: float) -> None:
    """The numbers are every fourth of what its `ROPE_INIT_FUNCTIONS` give (5.24)."""
    asked = turning({"rope_theta": BASE, "original_max_position_embeddings": 2048, **parameters}, 64, None)
    assert asked is not None
    np.testing.assert_allclose(asked.periods[::4], periods, rtol=1e-4)
    assert asked.scale == pytest.approx(scale)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def answers(folder: Path) -> mx.array:
    """The logits of a folder's model for 100 tokens."""
    model, _, _ = read_model(folder, "float32")
    return model(mx.arange(4, 104)[None])


def moved(config: dict[str, Any]) -> None:
    """The config as transformers 5 saves it."""
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": config.pop("rope_theta")}
    if "partial_rotary_factor" in config:
        config["rope_parameters"]["partial_rotary_factor"] = config.pop("partial_rotary_factor")


def moved_by_type(config: dict[str, Any]) -> None:
    """The same where layers of two types turn differently, and follow another pattern than the class's own."""
    full, local = config.pop("rope_theta"), config.pop("rope_local_base_freq")
    pattern = config.pop("sliding_window_pattern")
    kinds = ["full_attention" if n % pattern == 0 else "sliding_attention" for n in (1, 2)]
    config |= {
        "layer_types": kinds,
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": full}},
    }
    config["rope_parameters"]["sliding_attention"] = {"rope_type": "default", "rope_theta": local}


@pytest.mark.parametrize(
    ("architecture", "more", "move"),
    [
        ("llama", {"rope_theta": 77.0}, moved),
        ("gemma2", {"rope_theta": 77.0}, moved),
        ("qwen3_next", {"rope_theta": 77.0}, moved),
        ("gemma3_text", {"rope_theta": 77.0, "rope_local_base_freq": 55.0}, moved_by_type),
    ],
)
def test_a_folder_saved_by_transformers_5_answers_as_before(
    tmp_path: Path, architecture: str, more: dict[str, Any], move: Callable[[dict[str, Any]], None]
) -> None:
    folder = make_model(tmp_path, architecture, **more)
    before = answers(folder)
    rewrite(folder, move)
    assert mx.allclose(answers(folder), before, atol=1e-5).item()
    other = {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.5}
    rewrite(folder, lambda config: config.update(rope_parameters=other))
    assert not mx.allclose(answers(folder), before, atol=1e-3).item(), "the base has no say here"


def test_an_output_layer_of_its_own_is_not_dropped(tmp_path: Path) -> None:
    folder = make_model(tmp_path, "llama")
    before = answers(folder)
    rewrite(folder, lambda config: config.pop("tie_word_embeddings"))
    assert mx.array_equal(answers(folder), before).item()


def test_yarn_begins_from_the_context_where_a_config_does_not_say_from_where(tmp_path: Path) -> None:
    folder = make_model(tmp_path, "llama", rope_scaling={"type": "yarn", "factor": 4.0})
    silent = answers(folder)
    rewrite(folder, lambda config: config["rope_scaling"].update(original_max_position_embeddings=512))
    assert mx.array_equal(answers(folder), silent).item()
    rewrite(folder, lambda config: config["rope_scaling"].update(original_max_position_embeddings=64))
    assert not mx.allclose(answers(folder), silent, atol=1e-3).item()


@pytest.mark.parametrize("scaling", [{"rope_type": "linear", "factor": 4.0}, {"rope_type": "llama3", **LLAMA3}])
def test_scaling_that_a_class_does_not_know_is_put_in_and_told(tmp_path: Path, scaling: dict[str, Any]) -> None:
    folder = make_model(tmp_path, "gemma2")
    rewrite(folder, lambda config: config.update(rope_parameters={"rope_theta": 10_000.0, **scaling}))
    model, config, notes = read_model(folder, "float32")
    [[first, _]] = placed(model, config).values()
    wanted = turning(rope_by_type(config)[""], first.dims, None)
    assert wanted is not None
    assert turning_of(first.module).is_like(wanted)
    assert "rotary positions of 2 layers follow config.json, which mlx-lm reads in part" in notes


def test_an_encoder_saved_by_transformers_5_computes_as_before(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path, "modernbert")
    ids = mx.arange(40)[None] % 25

    def states(**more: Any) -> mx.array:
        config = json.loads((folder / "config.json").read_text()) | more
        return read_encoder(folder, config)(ids, attention_mask=mx.ones_like(ids)).last_hidden_state

    before = states(global_rope_theta=77.0, local_rope_theta=55.0, global_attn_every_n_layers=1)
    by_type = {"full_attention": {"rope_theta": 77.0}, "sliding_attention": {"rope_theta": 55.0}}
    kinds = ["full_attention", "full_attention"]
    assert mx.array_equal(states(rope_parameters=by_type, layer_types=kinds), before).item()
    kinds[1] = "sliding_attention"
    assert not mx.allclose(states(rope_parameters=by_type, layer_types=kinds), before, atol=1e-4).item()


@pytest.mark.parametrize(
    ("architecture", "more", "told"),
    [
        ("llama", {"sliding_window": 64}, True),
        ("gemma2", {"sliding_window": 64}, True),
        ("gemma2", {"sliding_window": 64, "layer_types": None}, True),
        ("llama", {"sliding_window": 512}, False),
        ("llama", {"sliding_window": None}, False),
        ("llama", {"sliding_window": 64, "use_sliding_window": False}, False),
        ("llama", {"sliding_window": 64, "layer_types": ["full_attention"] * 2}, False),
        ("llama", {"sliding_window": 64, "layer_types": ["full_attention", "sliding_attention"]}, False),
        ("gemma3_text", {}, False),
    ],
)
def test_a_window_that_is_not_computed_is_told(
    tmp_path: Path, architecture: str, more: dict[str, Any], told: bool
) -> None:
    _, _, notes = read_model(make_model(tmp_path, architecture, **more), "float32")
    assert any("sliding window of 64 tokens" in note for note in notes) is told
