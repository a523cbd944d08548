"""Whisper from CTranslate2's files: what becomes of them, and that it hears."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray
from support.voices.repeat import hold_float32
from support.voices.speech import SENTENCES, samples, word_error_rate

from mlx_server.workers.engine.from_ctranslate2 import whisper
from mlx_server.workers.engine.from_ctranslate2.model_bin import ModelBin, ModelBinError, read_model_bin

Array = NDArray[np.generic]


def _file(folder: Path, arrays: dict[str, Array], version: int = 6) -> Path:
    """A model.bin, written as CTranslate2 does."""
    numbers = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
    content = struct.pack("<I", version) + _text("WhisperSpec") + struct.pack("<II", 3, len(arrays))
    for name, array in arrays.items():
        kind = numbers[array.dtype.name]
        content += _text(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        content += struct.pack("<BI", kind, array.nbytes) + array.tobytes()
    path = folder / "model.bin"
    path.write_bytes(content + struct.pack("<I", 0))
    return path


def _text(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def _numbers(*shape: int) -> Array:
    return np.arange(np.prod(shape), dtype=np.float16).reshape(shape)


def test_model_bin_is_read_as_it_was_written(tmp_path: Path) -> None:
    arrays = {"encoder/num_heads": np.array(6, np.int16), "decoder/embeddings/weight": _numbers(5, 3)}
    model = read_model_bin(_file(tmp_path, arrays))
    assert model.spec == "WhisperSpec"
    assert model.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array(model.arrays[name]).dtype == array.dtype
        np.testing.assert_array_equal(np.array(model.arrays[name]), array)


def test_model_bin_that_is_cut_short_says_so(tmp_path: Path) -> None:
    path = _file(tmp_path, {"decoder/embeddings/weight": _numbers(5, 3)})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelBinError, match="is not whole"):
        read_model_bin(path)


def test_model_bin_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelBinError, match=r"no model\.bin of version 6"):
        read_model_bin(_file(tmp_path, {}, version=3))


def test_joined_projections_are_split_and_keys_have_no_bias() -> None:
    joined = {
        "encoder/layer_3/self_attention/linear_0/weight": mx.array(_numbers(6, 2)),
        "encoder/layer_3/self_attention/linear_0/bias": mx.array(_numbers(6)),
        "decoder/layer_0/attention/linear_1/weight": mx.array(_numbers(4, 2)),
    }
    found = whisper.weights(ModelBin(whisper.SPEC, joined))
    own, cross = "model.encoder.layers.3.self_attn", "model.decoder.layers.0.encoder_attn"
    assert {name: array.tolist() for name, array in found.items()} == {
        f"{own}.q_proj.weight": [[0, 1], [2, 3]],
        f"{own}.k_proj.weight": [[4, 5], [6, 7]],
        f"{own}.v_proj.weight": [[8, 9], [10, 11]],
        f"{own}.q_proj.bias": [0, 1],
        f"{own}.v_proj.bias": [4, 5],
        f"{cross}.k_proj.weight": [[0, 1], [2, 3]],
        f"{cross}.v_proj.weight": [[4, 5], [6, 7]],
    }


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("encoder/layer_0/ffn/linear_0/weight", mx.zeros((2, 2), mx.int8), "quantised"),
        ("encoder/layer_0/ffn/linear_0/weight_scale", mx.zeros(2), "no array of a Whisper"),
        ("encoder/layer_0/self_attention/relative_keys", mx.zeros((2, 2), mx.float16), "no array of a Whisper"),
    ],
    ids=["int8", "scale", "other"],
)
def test_what_is_not_read_is_refused_by_name(name: str, array: mx.array, reason: str) -> None:
    with pytest.raises(ModelBinError, match=rf"^{name} is .*{reason}"):
        whisper.weights(ModelBin(whisper.SPEC, {name: array}))


@pytest.mark.model
def test_whisper_has_the_sizes_and_names_of_its_original(whisper_tiny: Path) -> None:
    config = json.loads((whisper_tiny / "config.json").read_text())
    sizes = {"vocab_size": 51_864, "d_model": 384, "encoder_layers": 4, "decoder_layers": 4, "num_mel_bins": 80}
    sizes |= {"encoder_attention_heads": 6, "decoder_ffn_dim": 1536, "max_source_positions": 1500}
    sizes |= {"max_target_positions": 448, "eos_token_id": 50_256, "decoder_start_token_id": 50_257}
    assert {name: config[name] for name in sizes} == sizes
    weights = mx.load(str(whisper_tiny / "model.safetensors"))
    assert len(weights) == 167  # of openai/whisper-tiny.en
    assert {array.dtype for array in weights.values()} == {mx.float16}
    assert weights["model.encoder.conv1.weight"].shape == (384, 80, 3)
    assert weights["model.decoder.layers.3.encoder_attn.v_proj.weight"].shape == (384, 384)


@pytest.mark.model
def test_whispers_tokenizer_has_all_timestamps(whisper_tiny: Path) -> None:
    from transformers import WhisperProcessor

    tokenizer = WhisperProcessor.from_pretrained(whisper_tiny).tokenizer
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|notimestamps|>"]) == [50_256, 50_362]
    assert tokenizer.convert_tokens_to_ids(["<|0.00|>", "<|30.00|>"]) == [50_363, 51_863]
    assert tokenizer.decode(tokenizer.encode(" Hello, world!", add_special_tokens=False)) == " Hello, world!"


@pytest.mark.model
def test_whisper_hears_what_was_said(whisper_tiny: Path) -> None:
    from mlx_audio.stt import load

    model = load(whisper_tiny, strict=True)
    hold_float32(model)
    heard = model.generate(samples(SENTENCES[0]), temperature=0.0, fp16=False)
    assert word_error_rate(SENTENCES[0], heard.text) == 0
    assert heard.segments[0]["start"] == 0.0
    assert 2 < heard.segments[0]["end"] < 4
