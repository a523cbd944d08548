"""Kokoro from a quantised ONNX graph: its weights, and that what it says is understood."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from onnx import helper, numpy_helper
from support.voices import repeat
from support.voices.speech import SENTENCES, word_error_rate

from mlx_server.app.demo.models import KOKORO_VOICES
from mlx_server.workers.engine.from_onnx import kokoro
from mlx_server.workers.engine.from_onnx.graph import Graph, Weight, gates, module_of
from mlx_server.workers.parent.environment import child_environment


def _graph(nodes: list[tuple[str, str, list[str]]], **arrays: np.ndarray) -> Graph:
    """A model of operations (type, name, inputs) and stored arrays, whose names have a dot for each `_dot_`."""
    made = [helper.make_node(kind, inputs, [f"{name}_output"], name=name) for kind, name, inputs in nodes]
    stored = [numpy_helper.from_array(array, name.replace("_dot_", ".")) for name, array in arrays.items()]
    return Graph(helper.make_model(helper.make_graph(made, "test", [], [], stored)))


def test_integers_become_the_numbers_that_they_stand_for() -> None:
    graph = _graph(
        [("MatMulInteger", "/encoder/a/MatMul_quant", ["x", "w_quantized", "zero_of_x", "w_zero_point"])],
        w_quantized=np.array([[1, 2], [3, 4]], np.int8),
        w_scale=np.array([0.5, 2], np.float32),
        w_zero_point=np.array([0, 1], np.int8),
    )
    (weight,) = graph.weights()
    assert (weight.operation, weight.module) == ("MatMulInteger", "encoder.a")
    assert weight.array.tolist() == [[0.5, 2], [1.5, 6]]


def test_weights_that_several_operations_share_are_read_once() -> None:
    nodes = [("MatMul", f"/encoder/layer{turn}/MatMul", ["x", "w"]) for turn in ("", "_1", "_2")]
    assert [weight.module for weight in _graph(nodes, w=np.ones((2, 2), np.float32)).weights()] == ["encoder.layer"]


def test_names_of_before_the_export_are_kept_and_those_of_operations_are_not() -> None:
    named = _graph(
        [],
        a_dot_bias=np.ones(2, np.float32),
        b_dot_weight_quantized=np.array([[4, 6]], np.int8),
        b_dot_weight_scale=np.array(0.5, np.float32),
        b_dot_weight_zero_point=np.array(0, np.int8),
    ).named()
    assert {name: array.tolist() for name, array in named.items()} == {"a.bias": [1, 1], "b.weight": [[2, 3]]}


@pytest.mark.parametrize(
    ("node", "module", "name"),
    [
        ("/encoder/text_encoder/cnn.0/cnn.0.0/Conv_quant", "encoder.text_encoder.cnn.0.0", "text_encoder.cnn.0.0"),
        ("/encoder/F0.1/conv1/Conv_quant", "encoder.F0.1.conv1", "predictor.F0.1.conv1"),
        ("/encoder/shared/LSTM_quant", "encoder.shared", "predictor.shared"),
        ("/decoder/decoder/F0_conv/Conv_quant", "decoder.decoder.F0_conv", "decoder.F0_conv"),
    ],
)
def test_modules_get_the_names_of_the_original(node: str, module: str, name: str) -> None:
    assert module_of(node) == module
    assert kokoro.own(module) == name


def test_gates_are_put_into_pytorchs_order() -> None:
    assert gates(mx.array([[1], [2], [3], [4]])).tolist() == [[1], [3], [4], [2]]


def test_convolutions_are_length_times_direction() -> None:
    array = mx.array([[[3.0, 0.0], [0.0, 4.0]], [[0.0, 2.0], [0.0, 0.0]]])
    found = kokoro.of_module("decoder.conv", Weight("ConvInteger", "decoder.decoder.conv", array))
    assert found["decoder.conv.weight_g"].reshape(-1).tolist() == [5, 2]
    assert found["decoder.conv.weight_v"].tolist() == array.tolist()


@pytest.mark.model
def test_kokoro_is_complete_and_has_voices(kokoro_folder: Path) -> None:
    from mlx_audio.tts import load

    model = load(kokoro_folder, strict=True)  # which misses no weight, and knows each
    assert model.sample_rate == 24_000
    assert len(model.vocab) == 114
    weights = mx.load(str(kokoro_folder / "model.safetensors"))
    assert {array.dtype for array in weights.values()} == {mx.float32}
    voices = {path.stem: mx.load(str(path))["voice"].shape for path in (kokoro_folder / "voices").iterdir()}
    assert voices == dict.fromkeys(KOKORO_VOICES, (510, 1, 256))
    assert json.loads((kokoro_folder / "config.json").read_text())["model_type"] == "kokoro"


@pytest.mark.model
def test_what_kokoro_says_is_understood(kokoro_folder: Path, whisper_tiny: Path) -> None:
    said = {"bm_george": SENTENCES[4]}
    command = [
        sys.executable,
        repeat.__file__,
        kokoro_folder,
        whisper_tiny,
        *(word for pair in said.items() for word in pair),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=child_environment())
    assert done.returncode == 0, done.stderr
    heard = [line.removeprefix("heard: ") for line in done.stdout.splitlines() if line.startswith("heard: ")]
    assert word_error_rate(list(said.values()), heard) == 0, heard
