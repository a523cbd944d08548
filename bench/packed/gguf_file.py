"""Writes a llama of 4-bit affine weights, as an MLX folder holds it, as a GGUF file for llama.cpp.

In llama.cpp's Q4_1 a weight is code * scale + minimum, as in MLX, so the codes are the very same; scales and minima are
rounded to half precision, and each stands twice, since a block has 32 weights and a group of MLX's 64. Q4_0, which
llama.cpp is faster with, has no minimum: its weights are the nearest that it can express. The file has no vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

FORMS = {"q4_0": gguf.GGMLQuantizationType.Q4_0, "q4_1": gguf.GGMLQuantizationType.Q4_1}
BLOCK = 32
SCALING = ("scales", "biases")


def write_gguf(folder: Path, form: str, path: Path) -> None:
    """Write the model of a folder to `path` in one of `FORMS`."""
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "llama", use_temp_file=True)
    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config.get("rope_theta", 10_000.0))
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, parts in layers(folder):
        known = names.get_name(name)
        assert known is not None, name
        if "scales" not in parts:
            writer.add_tensor(f"{known}.weight", np.array(parts["weight"].astype(mx.float32)))
            continue
        rows = [np.array(part) for part in (parts["weight"], *(parts[key].astype(mx.float32) for key in SCALING))]
        if name.endswith(("q_proj", "k_proj")):
            rows = [turned(part, heads if name.endswith("q_proj") else key_heads) for part in rows]
        writer.add_tensor(f"{known}.weight", blocks(form, *rows), raw_dtype=FORMS[form])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def layers(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each layer's name with its arrays."""
    for file in sorted(folder.glob("*.safetensors")):
        found: dict[str, dict[str, Any]] = {}
        for name, array in mx.load(str(file)).items():
            layer, _, part = name.rpartition(".")
            found.setdefault(layer, {})[part] = array
        yield from found.items()


def turned(part: NDArray[Any], heads: int) -> NDArray[Any]:
    """Rows of queries or keys [heads * size, ...] in llama.cpp's order, whose rotary pairs stand side by side."""
    return part.reshape(heads, 2, -1, part.shape[-1]).swapaxes(1, 2).reshape(part.shape)


def blocks(form: str, words: NDArray[Any], scales: NDArray[Any], minima: NDArray[Any]) -> NDArray[Any]:
    """Words [outputs, inputs / 8] and what scales them [outputs, groups] as bytes [outputs, bytes of a row]."""
    packed = words.view(np.uint8)
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(words), -1)
    if form == "q4_0":
        size = codes.shape[1] // scales.shape[1]
        weights = codes * scales.repeat(size, axis=1) + minima.repeat(size, axis=1)
        return gguf.quants.quantize(weights, FORMS[form])
    blocked = codes.reshape(len(words), -1, BLOCK)
    times = blocked.shape[1] // scales.shape[1]
    heads = [part.repeat(times, axis=1).astype(np.float16)[..., None].view(np.uint8) for part in (scales, minima)]
    halves = blocked[..., : BLOCK // 2] | blocked[..., BLOCK // 2 :] << 4
    return np.concatenate([*heads, halves], axis=-1).reshape(len(words), -1)
