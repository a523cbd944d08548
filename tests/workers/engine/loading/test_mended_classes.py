"""What mlx-lm's classes leave out or can't read is computed all the same; docs/models.md has the whole comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from fidelity.outcomes import CASES, outcome
from fidelity.tiny import ids, kept, weights
from fidelity.vision_outcomes import blind_outcomes, config_of
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes, load_model
from safetensors.numpy import save_file

from mlx_server.workers.engine.loading.config_form import BY_PARAMETERS, NO_SCALING, SCALED, suited
from mlx_server.workers.engine.loading.left_out import TAKEN_FOR_GRANTED, derived
from mlx_server.workers.engine.loading.loading import read_model, required
from mlx_server.workers.engine.loading.mended_classes import NAMED, RENAMED, mended, renamed, with_output_layer
from mlx_server.workers.engine.loading.rope import put_right
from mlx_server.workers.engine.loading.saved_form import as_known
from mlx_server.workers.engine.loading.turning import turning
from mlx_server.workers.folders.known_types import TEXT_PARTS

pytestmark = pytest.mark.model

TIED = ("deepseek_v3", "glm4", "gpt_neox", "gptj", "helium", "phi", "qwen2_moe", "stablelm")
"""Types whose class always has an output layer, under each of the names that there are."""

SAVED_AS = {module: part for part, module in TEXT_PARTS.items()}
"""What folders of parts that write text are called, by the modules that compute them."""

PARTS = {"glm4v_moe_text", "llama4_vision_model"}
GRANTED = sorted(set(TAKEN_FOR_GRANTED) - {"gemma4_text", "granitemoehybrid"} - PARTS)
"""The first has a default of its own; those that are parts of models that see are tried among them."""

SEEING = ("kimi_k25", "muse_glimmer")
"""Types of which mlx-lm reads the part that writes text."""


def folder_of(model_type: str, variant: str, folder: Path) -> dict[str, Any]:
    """Make the files of a case's variant; its config, as transformers 5 writes it."""
    case = json.loads((CASES / f"{model_type}.json").read_text())
    changes = case["variants"][variant]
    config = case["config"] | changes["set"]
    config = {name: value for name, value in config.items() if name not in changes["missing"]}
    save_file(kept(config, weights(case["shapes"])), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return config


def state(model_type: str, variant: str, folder: Path, config: Mapping[str, Any]) -> str:
    """How the server does."""
    wanted = json.loads((CASES / f"{model_type}.json").read_text())["variants"][variant]["logits"]
    return outcome(folder, config, ids(variant), np.array(wanted))[0]


def read_by_the_library(folder: Path, config: dict[str, Any], left_out: Mapping[str, Any] | None = None) -> Any:
    """The model by mlx-lm's own class, with a config that suits it, but for some keys. Raises anything."""
    changes = as_known(config)
    changes |= {name: value for name, value in suited(config | changes).items() if name not in (left_out or {})}
    changes |= derived(config, required(config | changes))
    model, _ = load_model(folder, lazy=True, model_config=changes)
    return model


@pytest.mark.parametrize("model_type", [SAVED_AS.get(name, name) for name in sorted(NAMED - {*SEEING})])
def test_files_that_a_class_can_not_read_are_computed(model_type: str, tmp_path: Path) -> None:
    config = folder_of(model_type, "default", tmp_path)
    assert state(model_type, "default", tmp_path, config) == "equal"
    with pytest.raises(ValueError, match="parameters"):  # else mlx-lm has mended it: it needs no other names
        read_by_the_library(tmp_path, config)


@pytest.mark.parametrize("model_type", [*SEEING, "gemma3"])
def test_the_text_of_models_that_see_is_computed(model_type: str, tmp_path: Path) -> None:
    assert next(blind_outcomes(model_type, tmp_path)).state == "equal"
    config = config_of(model_type)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises((TypeError, ValueError)):  # else mlx-lm has mended it: it needs no help
        load_model(tmp_path, lazy=True)


@pytest.mark.parametrize("model_type", TIED)
def test_the_embedding_is_the_output_layer_of_a_tied_model(model_type: str, tmp_path: Path) -> None:
    config = folder_of(model_type, "tied", tmp_path)
    assert state(model_type, "tied", tmp_path, config) == "equal"
    with pytest.raises(ValueError, match="Missing"):  # else mlx-lm has mended it: the class needs no output layer
        read_by_the_library(tmp_path, config)


@pytest.mark.parametrize("model_type", ["gemma3_text", "recurrent_gemma"])
def test_a_class_that_drops_its_output_layer_by_itself_is_given_none(model_type: str, tmp_path: Path) -> None:
    config = folder_of(model_type, "tied", tmp_path)
    assert state(model_type, "tied", tmp_path, config) == "equal"


@pytest.mark.parametrize("model_type", GRANTED)
def test_what_transformers_takes_for_granted_is_given_to_a_class(model_type: str, tmp_path: Path) -> None:
    config = folder_of(model_type, "default", tmp_path)
    assert state(model_type, "default", tmp_path, config) == "equal"
    with pytest.raises(TypeError, match="required positional"):  # else mlx-lm has mended it: it knows by itself
        read_by_the_library(tmp_path, config, TAKEN_FOR_GRANTED[model_type])


def test_gemma4_caps_its_logits_only_where_a_config_says_so(tmp_path: Path) -> None:
    config = folder_of("gemma4_text", "default", tmp_path)
    assert "final_logit_softcapping" not in config
    assert state("gemma4_text", "default", tmp_path, config) == "equal"
    assert _get_classes(config)[1].final_logit_softcapping is not None  # else mlx-lm has mended it


@pytest.mark.parametrize("model_type", SCALED)
def test_a_class_that_always_looks_for_a_scaling_finds_none(model_type: str, tmp_path: Path) -> None:
    config = folder_of(model_type, "default", tmp_path)
    assert suited(config)["rope_scaling"] == NO_SCALING
    assert state(model_type, "default", tmp_path, config) == "equal"
    with pytest.raises((AttributeError, TypeError)):  # else mlx-lm has mended it: leave it out of SCALED
        read_by_the_library(tmp_path, config, {"rope_scaling": None})


@pytest.mark.parametrize("model_type", BY_PARAMETERS)
def test_a_class_that_knows_the_new_form_alone_gets_it(model_type: str, tmp_path: Path) -> None:
    config = folder_of(model_type, "yarn", tmp_path)
    parameters = config.pop("rope_parameters")
    old = {**config, "rope_theta": parameters.pop("rope_theta"), "rope_scaling": parameters}
    assert state(model_type, "yarn", tmp_path, old) == "equal"
    with pytest.raises(TypeError, match="NoneType"):  # else mlx-lm has mended it: leave it out of BY_PARAMETERS
        read_by_the_library(tmp_path, old, {"rope_parameters": None})(mx.array([[3, 4]]))


def test_olmo_hybrids_convolutions_are_split_as_its_class_wants_them(tmp_path: Path) -> None:
    config = folder_of("olmo_hybrid", "default", tmp_path)
    assert state("olmo_hybrid", "default", tmp_path, config) == "equal"
    saved = mx.load(str(tmp_path / "model.safetensors"))
    lengths = {len(array) for name, array in saved.items() if "conv1d" in name}
    # Else transformers has mended it: queries' and keys' kernels are no longer as many as those of values.
    assert max(lengths) - min(lengths) <= 1
    names = renamed(saved, RENAMED["olmo_hybrid"])
    mx.save_safetensors(str(tmp_path / "model.safetensors"), names, {"format": "pt"})
    with pytest.raises(ValueError, match="conv1d"):  # else mlx-lm has mended it: it splits them by itself
        read_by_the_library(tmp_path, config)


def test_jambas_experts_have_their_shares_of_all(tmp_path: Path) -> None:
    config = folder_of("jamba", "default", tmp_path)
    model, _, notes = read_model(tmp_path, "float32")
    assert state("jamba", "default", tmp_path, config) == "equal"
    assert not any("differently" in note for note in notes)
    prompt, alone = mx.array([[3, 4, 5]]), read_by_the_library(tmp_path, config)
    assert not mx.allclose(model(prompt), alone(prompt), atol=1e-2)  # else mlx-lm has mended it


def test_minicpm3_scales_its_last_hidden_states_where_they_are_tied_too(tmp_path: Path) -> None:
    config = folder_of("minicpm3", "tied", tmp_path)
    assert state("minicpm3", "tied", tmp_path, config) == "equal"
    [[ours, theirs]] = [[load(tmp_path, config, way)(mx.array([[5, 6]])) for way in (mended, _get_classes)]]
    share = config["dim_model_base"] / config["hidden_size"]
    # Else mlx-lm has mended it: the class of `mended` is to go.
    assert np.allclose(ours, theirs * share, atol=1e-3 * float(mx.abs(ours).max()))
    assert share != 1


def load(folder: Path, config: dict[str, Any], classes: Any) -> Any:
    """A model of given classes."""
    model, _ = load_model(folder, model_config=suited(config), get_model_classes=classes)
    return model


def test_nanochats_positions_are_scaled(tmp_path: Path) -> None:
    config = folder_of("nanochat", "yarn", tmp_path)
    assert state("nanochat", "yarn", tmp_path, config) == "equal"
    base, _ = _get_classes(config)
    plain = base(mended(config)[1].from_dict(config | suited(config)))
    wanted = turning(config["rope_parameters"], plain.layers[0].attn.head_dim, 512)
    assert wanted is not None
    assert not np.allclose(-np.array(plain.layers[0].attn._rope_freqs), wanted.periods), "mlx-lm has mended it"


HUNYUAN = "hunyuan_v1_dense"
ALPHA = {"rope_type": "dynamic", "rope_theta": 10_000.0, "alpha": 1000.0, "factor": 1.0}


def test_hunyuans_alpha_stretches_the_base(tmp_path: Path) -> None:
    found = turning(ALPHA, 16, 512)
    assert found is not None
    assert np.allclose(found.periods, (10_000.0 * 1000.0 ** (16 / 14)) ** (np.arange(0, 16, 2) / 16))
    config = folder_of(HUNYUAN, "default", tmp_path) | {"rope_parameters": ALPHA}
    assert put_right(read_by_the_library(tmp_path, config), config) == []


def test_hunyuans_class_refuses_other_scalings_and_they_are_computed(tmp_path: Path) -> None:
    config = folder_of(HUNYUAN, "linear", tmp_path)
    assert state(HUNYUAN, "linear", tmp_path, config) == "equal"
    with pytest.raises(ValueError, match="must contain keys"):  # else mlx-lm has mended it: it needs no second try
        read_by_the_library(tmp_path, config)


def test_a_quantised_embedding_is_the_output_layer_with_its_scales() -> None:
    parts = {f"model.embed_tokens.{name}": mx.zeros((2, 2)) for name in ("weight", "scales", "biases")}
    wanted = {**dict(tree_flatten(parts)), "lm_head.weight": mx.zeros((2, 2))}
    found = with_output_layer(parts, wanted)
    assert set(found) - set(parts) == {"lm_head.weight", "lm_head.scales", "lm_head.biases"}


def test_a_tied_model_whose_class_has_no_output_layer_gets_none() -> None:
    embedding = {"model.embed_tokens.weight": mx.zeros((2, 2))}
    assert with_output_layer(embedding, embedding) == embedding
