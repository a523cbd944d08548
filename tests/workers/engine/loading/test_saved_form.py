"""Folders that transformers 5 saves under other types or keys than mlx-lm knows."""

from importlib import import_module
from typing import Any

import pytest

from mlx_server.workers.engine.loading.config_form import WIDE_AS_TEXT, suited
from mlx_server.workers.engine.loading.saved_form import BY_LAYER, GLOBAL_NAMES, as_known, global_layers
from mlx_server.workers.folders.known_types import TEXT_PARTS, knows, modules
from mlx_server.workers.folders.unread.keys import mentioned


@pytest.mark.parametrize(
    ("by_layer", "changes"),
    [
        ({}, {}),
        ({"3": {"head_dim": 512}}, {"global_head_dim": 512}),
        ({"1": {"head_dim": 512}, "3": {"head_dim": 512}}, {"global_head_dim": 512}),
        ({"1": {"head_dim": 512}, "3": {"head_dim": 256}}, {}),
        ({"1": {"head_dim": 8, "num_key_value_heads": 2}}, {"global_head_dim": 8, "num_global_key_value_heads": 2}),
    ],
)
def test_what_all_global_layers_have_of_their_own_is_found(by_layer: dict[str, Any], changes: dict[str, Any]) -> None:
    assert global_layers({BY_LAYER: by_layer}) == changes


@pytest.mark.parametrize("part", TEXT_PARTS)
def test_a_part_that_writes_text_is_known_by_itself(part: str) -> None:
    config = {"model_type": part, "hidden_size": 64}
    assert knows("mlx_lm", config)
    assert as_known(config) == {"model_type": TEXT_PARTS[part], "text_config": config}


def test_a_share_of_dimensions_that_one_type_of_layers_turns_is_not_the_others() -> None:
    turning = {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.25},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    assert "partial_rotary_factor" not in suited({"model_type": "gemma4_text", "rope_parameters": turning})
    turning["sliding_attention"]["partial_rotary_factor"] = 0.25
    assert suited({"model_type": "gemma4_text", "rope_parameters": turning})["partial_rotary_factor"] == 0.25


def test_library_still_knows_no_part_by_itself_and_no_layers_of_their_own() -> None:
    assert not modules("mlx_lm") & TEXT_PARTS.keys()
    names = mentioned("mlx_lm", "gemma4_text")
    assert BY_LAYER not in names
    assert GLOBAL_NAMES.keys() | set(GLOBAL_NAMES.values()) <= names


@pytest.mark.parametrize("model_type", WIDE_AS_TEXT)
def test_pictures_vectors_are_as_large_as_the_texts(model_type: str) -> None:
    parts = {"text_config": {"hidden_size": 2560}, "vision_config": {"hidden_size": 1152}}
    assert suited({"model_type": model_type, **parts})["hidden_size"] == 2560
    config = import_module(f"mlx_vlm.models.{model_type}.config")
    assert config.ModelConfig.hidden_size == 2048  # else mlx-vlm has mended it: it goes by the text's
