"""Quantised weights that stay packed, through real servers: the answers of their copies in float32."""

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model
from support.running.servers import ROOT, Server

PROMPTS = ("the quick brown fox", "one two three", "a", "pack my box with five dozen jugs")


def quantised(source: Path, folder: Path, **quantization: Any) -> Path:
    """The model with its weights quantised."""
    shutil.copytree(source, folder)
    model, config = load_model(source)
    nn.quantize(model, **quantization)
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())), {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps({**config, "quantization": quantization}))
    return folder


def served(folder: Path, cpu_dtype: str, **env: str) -> tuple[list[str], str]:
    """Greedy answers to all prompts at once and to each alone, and what was printed."""
    server = Server("--model-path", folder, "--cpu-dtype", cpu_dtype, env=env)

    def say(prompt: str) -> str:
        answer = server.complete(prompt, max_tokens=24, temperature=0)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["text"])

    try:
        server.wait_ready()
        with ThreadPoolExecutor(len(PROMPTS)) as clients:
            together = list(clients.map(say, PROMPTS))
        return together + [say(prompt) for prompt in PROMPTS], server.output()
    finally:
        server.close()


@pytest.mark.model
@pytest.mark.parametrize(
    "quantization",
    [{"group_size": 32, "bits": 4, "mode": "affine"}, {"group_size": 32, "bits": 4, "mode": "mxfp4"}],
    ids=["affine", "mxfp4"],
)
def test_packed_weights_write_what_their_float32_copies_write(
    tiny_model: Callable[[str], Path], tmp_path: Path, quantization: dict[str, Any]
) -> None:
    folder = quantised(tiny_model("llama"), tmp_path / "model", **quantization)
    packed, plain = (served(folder, cpu_dtype) for cpu_dtype in ("packed", "float32"))
    assert packed[0] == plain[0]
    assert "stay packed" in packed[1]
    assert any(Path(os.environ["NUMBA_CACHE_DIR"]).rglob("packed_kernels*.nbc")), "a worker keeps what it compiled"
    assert "dequantised to float32" in plain[1]


@pytest.mark.model
def test_without_a_compiler_of_kernels_weights_become_float32_and_it_is_said(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = quantised(tiny_model("llama"), tmp_path / "model", group_size=32, bits=4)
    without = str(ROOT / "tests" / "support" / "without")
    _, printed = served(folder, "auto", PYTHONPATH=without, WITHOUT_PACKAGES="numba")
    assert "can stay packed on a CPU, and are faster so, with: pip install" in printed
    assert "dequantised to float32" in printed
