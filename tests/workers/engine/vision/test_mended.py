"""What mlx-vlm's classes read otherwise than transformers 5 writes it: each workaround, and when it can go."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from fidelity.outcomes import seen_logits
from fidelity.sight import positions, seeing, seen_before
from fidelity.tiny import kept, weights
from fidelity.vision_outcomes import CASES, outcome, shown
from mlx_vlm.utils import load_model
from safetensors.numpy import save_file

from mlx_server.workers.engine.loading.config_form import FLAT, TIES, suited
from mlx_server.workers.engine.vision.loading import ACTIVATIONS, DIFFERS, differing, read_seeing
from mlx_server.workers.engine.vision.mended.activations import with_activations
from mlx_server.workers.engine.vision.mended.configs import STRICT, WIDTHS, config_changed, fitting
from mlx_server.workers.engine.vision.mended.patch_positions import ALONG_COLUMNS, CUBIC, CUBIC_SQUARE, NEAREST
from mlx_server.workers.engine.vision.mended.rotary import rotary_modules, scalable, scaled
from mlx_server.workers.engine.vision.mended.weights import ENCLOSED, SWAPPED, UNTIED, weights_mended

pytestmark = pytest.mark.model

GELUS: dict[str, Callable[[Any], Any]] = {
    "gelu": lambda x: [one / 2 * (1 + math.erf(one / math.sqrt(2))) for one in x],
    "gelu_pytorch_tanh": lambda x: [
        one / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (one + 0.044715 * one**3))) for one in x
    ],
    "quick_gelu": lambda x: [one / (1 + math.exp(-1.702 * one)) for one in x],
}

SHOWN = {"pixtral": "pixtral"}
"""By a kind of encoder of pictures, a model that has one."""

SEEING = {"lfm2": "lfm2_vl"}
"""By a kind of part that writes text, a model that has one."""


def case_of(model_type: str, folder: Path, variant: str = "default") -> dict[str, Any]:
    """Make the files of a case's variant as transformers 5 saves it; the case, with the variant's config and logits."""
    case: dict[str, Any] = json.loads((CASES / f"{model_type}.json").read_text())
    case["config"] |= case["variants"][variant]["set"]
    case["wanted"] = [np.array(one) for one in case["variants"][variant]["logits"]]
    made = kept(case["config"], weights(case["shapes"]))
    case["shapes"] = {name: [*array.shape] for name, array in made.items()}
    save_file(made, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(case["config"]))
    return case


def check_served(model_type: str, folder: Path, case: Mapping[str, Any]) -> None:
    """Raise AssertionError unless the server computes what transformers does, or says that it differs."""
    state, told = outcome(folder, case["config"], case, case["wanted"])
    assert state == ("announced" if model_type in DIFFERS else "equal"), told


def picture_logits(model: Any, case: Mapping[str, Any]) -> np.ndarray:
    """The logits of a prompt with a picture."""
    prompt = seeing(case["picture"])
    return seen_logits(model, prompt, positions(prompt), shown(case))


def read_by_the_library(folder: Path, changes: Mapping[str, Any]) -> None:
    """The model by mlx-vlm alone, with these keys in its config. Raises anything."""
    with config_changed(changes):
        load_model(folder, lazy=True, trust_remote_code=False)


@pytest.mark.parametrize("model_type", [kind for kind in ENCLOSED if (CASES / f"{kind}.json").exists()])
def test_weights_of_an_encoder_are_found_by_their_new_names(model_type: str, tmp_path: Path) -> None:
    case = case_of(model_type, tmp_path)
    check_served(model_type, tmp_path, case)
    changes = fitting(case["config"], case["shapes"])
    with pytest.raises(ValueError, match="vision_tower"):  # else mlx-vlm has mended it: leave it out of ENCLOSED
        read_by_the_library(tmp_path, changes)
    with weights_mended(case["config"] | changes, case["shapes"]):
        read_by_the_library(tmp_path, changes)


@pytest.mark.parametrize("model_type", UNTIED)
def test_the_embedding_is_the_output_layer_of_a_tied_model(model_type: str, tmp_path: Path) -> None:
    case = case_of(model_type, tmp_path, "tied")
    check_served(model_type, tmp_path, case)
    with pytest.raises(ValueError, match=r"lm_head|vision_tower|blocks"):  # else mlx-vlm has mended it: out of UNTIED
        read_by_the_library(tmp_path, fitting(case["config"], case["shapes"]))


@pytest.mark.parametrize("tied", [True, False])
def test_files_say_which_of_two_keys_is_true(tied: bool) -> None:
    names = ["language_model.model.embed_tokens.weight", *([] if tied else ["language_model.lm_head.weight"])]
    for outer in (True, False):
        config = {"model_type": "llava_onevision", TIES: outer, "text_config": {"model_type": "qwen2", TIES: not outer}}
        assert fitting(config, names)["text_config"][TIES] == tied


@pytest.mark.parametrize("model_type", SWAPPED)
def test_experts_matrices_are_turned_as_a_class_wants_them(model_type: str, tmp_path: Path) -> None:
    case = case_of(model_type, tmp_path)
    check_served(model_type, tmp_path, case)
    with pytest.raises(ValueError, match="Expected shape"):  # else mlx-vlm has mended it: leave it out of SWAPPED
        read_by_the_library(tmp_path, fitting(case["config"], case["shapes"]))


def test_experts_matrices_of_before_stay(tmp_path: Path) -> None:
    case = case_of("qwen3_vl_moe", tmp_path)
    old = {
        name: array.swapaxes(1, 2).copy() if ".experts." in name else array
        for name, array in kept(case["config"], weights(case["shapes"])).items()
    }
    save_file(old, tmp_path / "model.safetensors", {"format": "pt"})
    check_served("qwen3_vl_moe", tmp_path, case)


@pytest.mark.parametrize("model_type", STRICT)
def test_a_class_gets_no_keys_that_it_refuses(model_type: str, tmp_path: Path) -> None:
    case = case_of(model_type, tmp_path)
    check_served(model_type, tmp_path, case)
    with pytest.raises(TypeError, match="unexpected keyword"):  # else mlx-vlm has mended it: leave it out of STRICT
        read_by_the_library(tmp_path, suited(case["config"]))


@pytest.mark.parametrize("kind", WIDTHS)
def test_widths_are_those_of_the_hidden_states(kind: str, tmp_path: Path) -> None:
    case = case_of(SEEING[kind], tmp_path)
    check_served(SEEING[kind], tmp_path, case)
    with pytest.raises(ValueError, match="Expected shape"):  # else mlx-vlm has mended it: leave it out of WIDTHS
        read_by_the_library(tmp_path, suited(case["config"]))


@pytest.mark.parametrize("model_type", FLAT)
def test_what_is_about_text_stands_beside_what_is_about_pictures(model_type: str, tmp_path: Path) -> None:
    case = case_of(model_type, tmp_path)
    check_served(model_type, tmp_path, case)
    with pytest.raises((TypeError, ValueError)):  # else mlx-vlm has mended it: leave it out of FLAT
        read_by_the_library(tmp_path, {})


def test_internvl_has_the_part_that_its_config_asks_for(tmp_path: Path) -> None:
    case = case_of("internvl", tmp_path)
    check_served("internvl", tmp_path, case)
    # Else mlx-vlm has mended it: it knows other parts than Qwen 3's.
    with pytest.raises(ValueError, match="parameters not in model"):
        read_by_the_library(tmp_path, fitting(case["config"], case["shapes"]))


def test_glms_experts_have_no_norms_where_nothing_is_said_of_them(tmp_path: Path) -> None:
    case = case_of("glm4v_moe", tmp_path)
    check_served("glm4v_moe", tmp_path, case)
    with pytest.raises(TypeError, match="use_qk_norm"):  # else mlx-vlm has mended it
        read_by_the_library(tmp_path, {})


def test_positions_of_glm_ocr_are_found_where_version_4_wrote_them(tmp_path: Path) -> None:
    case = case_of("glm_ocr", tmp_path)
    old = seen_before(case["config"])
    assert old is not None
    check_served("glm_ocr", tmp_path, {**case, "config": old})
    text = {
        name: value for name, value in fitting(old, case["shapes"])["text_config"].items() if name != "rope_parameters"
    }
    (tmp_path / "config.json").write_text(json.dumps(old))
    with config_changed({**fitting(old, case["shapes"]), "text_config": text}):
        model = load_model(tmp_path, lazy=True, trust_remote_code=False)
    wanted = case["config"]["text_config"]["rope_parameters"]["rope_theta"]
    assert model.config.text_config.rope_theta != wanted, "mlx-vlm has mended it: leave it out of WHOLE_ROPE"


@pytest.mark.parametrize("variant", ["yarn", "llama3"])
def test_a_scaling_that_a_class_refuses_is_computed(variant: str, tmp_path: Path) -> None:
    case = case_of("llava", tmp_path, variant)
    check_served("llava", tmp_path, case)
    changes = fitting(case["config"], case["shapes"])
    with weights_mended(case["config"], case["shapes"]), pytest.raises(ValueError, match="only supports 'linear'"):
        read_by_the_library(tmp_path, changes)  # else mlx-vlm has mended it: it needs no second try


@pytest.mark.parametrize("variant", ["linear", "yarn", "llama3"])
@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen3_vl", "paddleocr_vl"])
def test_scaled_positions_along_several_axes_are_computed(model_type: str, variant: str, tmp_path: Path) -> None:
    case = case_of(model_type, tmp_path, variant)
    check_served(model_type, tmp_path, case)
    changes = fitting(case["config"], case["shapes"])
    with weights_mended(case["config"] | changes, case["shapes"]), pytest.raises(ValueError, match="must be 'mrope'"):
        read_by_the_library(tmp_path, changes)  # else mlx-vlm has mended it: it needs no second try


@pytest.mark.parametrize("model_type", ["glm_ocr", "qwen3_5"])
def test_a_scaling_that_a_class_leaves_out_is_computed(model_type: str, tmp_path: Path) -> None:
    case = case_of(model_type, tmp_path, "linear")
    check_served(model_type, tmp_path, case)
    changes = fitting(case["config"], case["shapes"])
    with config_changed(changes), weights_mended(case["config"] | changes, case["shapes"]):
        model = load_model(tmp_path, lazy=True, trust_remote_code=False)
    assert scalable(model.language_model, case["config"])
    assert scaled(model.language_model, case["config"]), "mlx-vlm has mended it: it scales by itself"
    assert not scaled(model.language_model, case["config"])


def test_metals_kernel_is_left_where_it_would_leave_out_a_factor(tmp_path: Path) -> None:
    case = case_of("qwen2_5_vl", tmp_path, "yarn")
    model, _, notes = read_seeing(tmp_path, "float32")
    assert notes == ["rotary positions of text are scaled as config.json asks, which mlx-vlm leaves out"]
    factor = 0.1 * math.log(case["config"]["text_config"]["rope_parameters"]["factor"]) + 1
    modules = rotary_modules(model.language_model)
    assert modules
    assert all(module.attention_scaling == pytest.approx(factor) and not module.fused_apply for module in modules)


@pytest.mark.parametrize("model_type", [*CUBIC, *CUBIC_SQUARE, *NEAREST, *ALONG_COLUMNS])
def test_positions_of_patches_are_those_of_transformers(model_type: str, tmp_path: Path) -> None:
    case = case_of(model_type, tmp_path)
    check_served(model_type, tmp_path, case)
    changes = fitting(case["config"], case["shapes"])
    with config_changed(changes), weights_mended(case["config"] | changes, case["shapes"]):
        model = load_model(tmp_path, lazy=True, trust_remote_code=False)
    with_activations(model, case["config"])
    found = picture_logits(model, case)
    assert not np.allclose(found, case["wanted"][0], atol=1e-2), "mlx-vlm has mended it: leave it out of its list"


def test_an_encoders_last_states_are_normalised_and_only_the_scale_differs(tmp_path: Path) -> None:
    case = case_of("cohere2_vision", tmp_path)
    wanted = case["wanted"][0] * case["config"]["text_config"]["logit_scale"]
    model, _, _ = read_seeing(tmp_path, "float32")
    assert np.allclose(picture_logits(model, case), wanted, atol=1e-3 * np.abs(wanted).max())
    model.multi_modal_projector = model.multi_modal_projector.projector
    found = picture_logits(model, case)
    assert not np.allclose(found, wanted, atol=1e-2 * np.abs(wanted).max()), "mlx-vlm has mended it: NORMED can go"


@pytest.mark.parametrize("model_type", ["llama4", "kimi_k25", "hunyuan_vl"])
def test_what_follows_from_other_keys_is_given_to_a_class(model_type: str, tmp_path: Path) -> None:
    case = case_of(model_type, tmp_path)
    check_served(model_type, tmp_path, case)
    with pytest.raises((TypeError, ValueError)):  # else mlx-vlm has mended it: leave it out of FOLLOWS, TOWER_NAMES
        read_by_the_library(tmp_path, {})


def test_an_encoder_computes_the_gelu_that_its_config_names(tmp_path: Path) -> None:
    case = case_of("idefics2", tmp_path)
    built_in = load_model(tmp_path, lazy=True, trust_remote_code=False).vision_model.encoder.layers[0].mlp.activation_fn
    for name in ("gelu_pytorch_tanh", "gelu", "quick_gelu", None):
        tower = {**case["config"]["vision_config"], "hidden_act": name}
        (tmp_path / "config.json").write_text(json.dumps({**case["config"], "vision_config": tower}))
        model, _, _ = read_seeing(tmp_path, "float32")
        found = model.vision_model.encoder.layers[0].mlp.activation_fn(mx.array([-1.0, 2.0]))
        assert np.allclose(found, GELUS[name or "gelu_pytorch_tanh"]([-1.0, 2.0]), atol=1e-6)
        if name is None:
            assert not np.allclose(found, built_in(mx.array([-1.0, 2.0])), atol=1e-6), "mlx-vlm has mended it"


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_another_activation_than_the_built_in_one_is_announced(kind: str, tmp_path: Path) -> None:
    case = case_of(SHOWN[kind], tmp_path)
    config = case["config"]
    other = {**config, "vision_config": {**config["vision_config"], "hidden_act": "relu"}}
    assert not differing(config)
    assert "activation" in differing(other)[0]
    usual, changed = (seen(tmp_path, one, case) for one in (config, other))
    assert np.array_equal(usual, changed), "mlx-vlm has mended it: it reads hidden_act"


def seen(folder: Path, config: Mapping[str, Any], case: Mapping[str, Any]) -> np.ndarray:
    """The logits of a prompt with a picture."""
    (folder / "config.json").write_text(json.dumps(config))
    model, _, _ = read_seeing(folder, "float32")
    return picture_logits(model, case)
