"""Rotary positions of models that see, as transformers 4 and 5 write what is asked of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from support.tiny.vision_models import make_vision_model

from mlx_server.workers.engine.vision.loading import read_vision_model

pytestmark = pytest.mark.model

BASE = 300.0


def rewritten(folder: Path, part: str | None, *leave: str, **change: Any) -> Path:
    """The folder with other keys in its config, or in a part of it."""
    config = json.loads((folder / "config.json").read_text())
    text = config[part] if part else config
    for name in leave:
        text.pop(name, None)
    text.update(change)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def said(folder: Path) -> mx.array:
    """The logits of a text."""
    model, _, _, _ = read_vision_model(folder, "float32")
    return model.language_model(mx.arange(8, 72)[None]).logits


@pytest.mark.parametrize(
    ("family", "part", "more"),
    [
        ("qwen2_vl", None, {"mrope_section": [2, 3, 3]}),
        ("mistral3", "text_config", {}),
        ("gemma3", "text_config", {}),
    ],
)
def test_both_ways_to_write_a_base_mean_the_same(
    family: str, part: str | None, more: dict[str, Any], tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("usual", "4", "5")]
    for folder in folders:
        folder.mkdir()
        make_vision_model(folder, family)
    usual = said(folders[0])
    before = said(rewritten(folders[1], part, rope_theta=BASE))
    parameters = {"rope_type": "default", "rope_theta": BASE, **more}
    leave = ("rope_theta", "rope_scaling")
    now = said(rewritten(folders[2], part, *leave, rope_parameters=parameters))
    assert mx.allclose(before, now, atol=1e-5)
    assert not mx.allclose(usual, now, atol=1e-3)
