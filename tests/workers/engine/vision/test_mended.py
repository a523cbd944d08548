"""What mlx-vlm's classes read otherwise than transformers 5 writes it: each workaround, and when it can go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from fidelity.sight import arrays, seeing
from fidelity.tiny import kept, weights
from fidelity.vision_outcomes import CASES, logits, outcome
from mlx_vlm.utils import load_model
from safetensors.numpy import save_file

from mlx_server.workers.engine.loading.config_form import suited
from mlx_server.workers.engine.vision.inputs import MediaInputs
from mlx_server.workers.engine.vision.loading import (
    ACTIVATIONS,
    DIFFERS,
    ENCLOSED,
    config_changed,
    differing,
    names_before,
    read_seeing,
)

pytestmark = pytest.mark.model

COMPARED = [kind for kind in ENCLOSED if (CASES / f"{kind}.json").exists()]
SHOWN = {"pixtral": "pixtral"}
"""By a kind of encoder of pictures, a model that has one."""


def case_of(model_type: str, folder: Path) -> dict[str, Any]:
    """Make the files of a case as transformers 5 saves it."""
    case: dict[str, Any] = json.loads((CASES / f"{model_type}.json").read_text())
    case["config"] |= case["variants"]["default"]["set"]
    save_file(kept(case["config"], weights(case["shapes"])), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(case["config"]))
    return case


@pytest.mark.parametrize("model_type", COMPARED)
def test_weights_of_an_encoder_are_found_by_their_new_names(model_type: str, tmp_path: Path) -> None:
    case = case_of(model_type, tmp_path)
    wanted = [np.array(one) for one in case["variants"]["default"]["logits"]]
    state, told = outcome(tmp_path, case["config"], case, wanted)
    assert state == ("announced" if model_type in DIFFERS else "equal"), told
    with config_changed(suited(case["config"])):
        with pytest.raises(ValueError, match="vision_tower"):  # else mlx-vlm has mended it: leave it out of ENCLOSED
            load_model(tmp_path, lazy=True, trust_remote_code=False)
        with names_before(model_type):
            load_model(tmp_path, lazy=True, trust_remote_code=False)


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
    given = MediaInputs({name: mx.array(value) for name, value in arrays(case["given"]).items()}, 1, ())
    return logits(model, seeing(case["picture"]), given)
