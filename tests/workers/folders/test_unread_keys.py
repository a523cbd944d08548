"""What of a config nobody looks at, found out from the libraries' sources."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_server.workers.folders.known_types import Library
from mlx_server.workers.folders.unread.keys import mentioned, note, unread_keys, unusual

LLAMA: dict[str, Any] = {"model_type": "llama", "hidden_size": 64, "hidden_act": "silu", "rms_norm_eps": 1e-5}


@pytest.mark.parametrize(
    ("changes", "unread"),
    [
        ({}, []),
        ({"hidden_act": "gelu"}, ["hidden_act"]),
        ({"final_logit_softcapping": 30.0}, ["final_logit_softcapping"]),
        ({"final_logit_softcapping": None, "use_qk_norm": False}, []),
        (
            {
                "_gguf_architecture": "llama",
                "router_aux_loss_coef": 0.1,
                "attention_dropout": 0.1,
                "bos_token_id": 1,
                "transformers_version": "5",
            },
            [],
        ),
        ({"sliding_window": 100, "rope_parameters": {"rope_theta": 1.0}}, []),
    ],
    ids=["as usual", "another activation", "an unknown key", "switched off", "harmless", "read here"],
)
def test_what_differs_from_the_usual_is_told(changes: dict[str, Any], unread: list[str]) -> None:
    config = LLAMA | changes
    assert sorted(unusual(config, "mlx_lm")) == unread
    assert bool(note(config, "mlx_lm")) is bool(unread)
    assert all(name in note(config, "mlx_lm")[0] for name in unread)


def test_the_part_that_writes_text_counts_too() -> None:
    config = {"model_type": "qwen3_5", "text_config": {"hidden_act": "relu"}, "vision_config": {"hidden_act": "relu"}}
    assert unusual(config, "mlx_lm") == {"text_config.hidden_act": "relu"}


def test_an_activation_under_its_earlier_name_is_no_matter_beside_the_later_one() -> None:
    config = {"model_type": "gemma3_text", "hidden_act": "silu", "hidden_activation": "gelu_pytorch_tanh"}
    assert unusual(config, "mlx_lm") == {}
    assert unusual({**config, "hidden_activation": "relu"}, "mlx_lm") == {"hidden_activation": "relu"}


@pytest.mark.parametrize(("library", "model_type"), [("mlx_lm", "mistral"), ("mlx_vlm", "gemma3")])
def test_a_types_source_is_found_under_its_class(library: Library, model_type: str) -> None:
    assert "num_hidden_layers" in mentioned(library, model_type)


def test_of_an_unknown_type_nothing_is_said() -> None:
    config = {**LLAMA, "model_type": "unheard_of", "strange": 1}
    assert mentioned("mlx_lm", "unheard_of") == frozenset()
    assert unread_keys(config, "mlx_lm") == {}
    assert note(config, "mlx_lm") == []


@pytest.mark.model
def test_models_show_lists_the_keys(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    config = json.loads((tiny_model("llama") / "config.json").read_text())
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_model("llama").iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps({**config, "final_logit_softcapping": 30.0}))
    command = [sys.executable, "-m", "mlx_server.app", "models", "show", "--unread", str(folder)]
    assert "final_logit_softcapping" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert found == [{"file": "config.json", "key": "final_logit_softcapping", "value": 30.0, "usual": None}]
    (folder / "config.json").write_text(json.dumps(config))
    assert "All that its files say" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
