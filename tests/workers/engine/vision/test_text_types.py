"""Models that write text alone and that mlx-vlm knows, not mlx-lm: each workaround, and when it can go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fidelity.outcomes import CASES, outcome, seen_logits
from fidelity.tiny import ids, kept, positions, weights
from mlx_vlm.utils import load_model
from safetensors.numpy import save_file

from mlx_server.workers.engine.loading.left_out import FOLLOWS
from mlx_server.workers.engine.vision.mended.configs import config_changed, fitting

pytestmark = pytest.mark.model


def case_of(model_type: str, folder: Path, variant: str = "default") -> tuple[dict[str, Any], np.ndarray]:
    """Make the files of a case's variant as transformers 5 saves it; its config, and the logits."""
    case = json.loads((CASES / f"{model_type}.json").read_text())
    config = case["config"] | case["variants"][variant]["set"]
    save_file(kept(config, weights(case["shapes"])), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return config, np.array(case["variants"][variant]["logits"])


def by_the_library(folder: Path, changes: Mapping[str, Any], variant: str = "default") -> np.ndarray:
    """The logits by mlx-vlm alone, with these keys in its config. Raises anything."""
    with config_changed(changes):
        model = load_model(folder, lazy=True, trust_remote_code=False)
    prompt = ids(variant)
    return seen_logits(model, prompt.tolist(), positions(prompt))


@pytest.mark.parametrize("model_type", ["flint", "hrm_text"])
def test_what_follows_from_other_keys_is_given_to_a_class(model_type: str, tmp_path: Path) -> None:
    config, wanted = case_of(model_type, tmp_path)
    assert outcome(tmp_path, config, ids("default"), wanted)[0] == "equal"
    left = {name: value for name, value in fitting(config, []).items() if name not in FOLLOWS[model_type]}
    try:
        found = by_the_library(tmp_path, left)
    except ValueError:
        return
    assert not np.allclose(found, wanted, atol=1e-2), "mlx-vlm has mended it: leave it out of FOLLOWS"


def test_kolibris_experts_are_counted_by_either_name(tmp_path: Path) -> None:
    config, wanted = case_of("kolibri1", tmp_path)
    assert outcome(tmp_path, config, ids("default"), wanted)[0] == "equal"
    with pytest.raises(TypeError, match="num_experts"):  # else mlx-vlm has mended it
        by_the_library(tmp_path, {})


@pytest.mark.parametrize("variant", ["yarn, exact", "longrope"])
def test_positions_of_mlx_vlms_own_modules_are_put_right(variant: str, tmp_path: Path) -> None:
    config, wanted = case_of("flint", tmp_path, variant)
    assert outcome(tmp_path, config, ids(variant), wanted)[0] == "equal"
    found = by_the_library(tmp_path, fitting(config, []), variant)
    assert not np.allclose(found, wanted, atol=1e-2), "mlx-vlm has mended it"
