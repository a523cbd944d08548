"""Small .gguf files with random weights, and with whatever metadata a test is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

HIDDEN, FEED_FORWARD, HEADS, CONTEXT = 32, 64, 4, 128
LETTERS = [chr(0x100 + code) for code in range(255)]
TOKENS = [*LETTERS, LETTERS[0] + LETTERS[1]]
MERGES = [" ".join(TOKENS[-1])]
NORMS = ("attn_norm", "ffn_norm")
GEMMA_NORMS = (*NORMS, "post_attention_norm", "post_ffw_norm")
FAMILIES: dict[str, tuple[str, ...]] = {"gemma2": GEMMA_NORMS, "gemma3": GEMMA_NORMS}
"""Norms of a layer as wide as the model."""

HEAD_NORMS = ("qwen3", "gemma3")
BIASES = ("qwen2",)
WHOLE_WORDS = ("camelCase", "\u0120leading")


def write_gguf(
    path: Path,
    architecture: str = "llama",
    metadata: Mapping[str, Any] | None = None,
    *,
    tokens: Sequence[str] = TOKENS,
    merges: Sequence[str] = MERGES,
    types: Mapping[int, gguf.TokenType] | None = None,
    drop: Sequence[str] = (),
    more: Mapping[str, np.ndarray[Any, Any]] | None = None,
    parts_of: int = 0,
    layers: int = 1,
) -> Path:
    """A model of few layers. `metadata` adds keys, takes the place of others, or has None to leave one out; `drop`
    leaves out tensors and `more` adds some; with `parts_of` so many tensors lie in a file."""
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=parts_of)
    keys: dict[str, Any] = {
        f"{architecture}.context_length": CONTEXT,
        f"{architecture}.embedding_length": HIDDEN,
        f"{architecture}.feed_forward_length": FEED_FORWARD,
        f"{architecture}.block_count": layers,
        f"{architecture}.attention.head_count": HEADS,
        f"{architecture}.attention.head_count_kv": HEADS,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{architecture}.rope.freq_base": 10_000.0,
        f"{architecture}.vocab_size": len(tokens),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
    }
    keys |= dict(metadata or {})
    for key, value in keys.items():
        add(writer, key, value)
    writer.add_token_list(list(tokens))
    writer.add_token_types([(types or {}).get(number, gguf.TokenType.NORMAL) for number in range(len(tokens))])
    writer.add_token_merges(list(merges))
    for name, array in (tensors(architecture, len(tokens), layers) | dict(more or {})).items():
        if name not in drop:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """A key with a value of the type that llama.cpp's converter gives it."""
    match value:
        case None:
            pass
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


def tensors(architecture: str, tokens: int, layers: int = 1) -> dict[str, np.ndarray[Any, Any]]:
    """The weights by llama.cpp's names; the embedding is the output layer too."""
    random = np.random.default_rng(0)
    layer: dict[str, tuple[int, ...]] = {
        "ffn_gate.weight": (FEED_FORWARD, HIDDEN),
        "ffn_up.weight": (FEED_FORWARD, HIDDEN),
        "ffn_down.weight": (HIDDEN, FEED_FORWARD),
        **{f"{norm}.weight": (HIDDEN,) for norm in FAMILIES.get(architecture, NORMS)},
        **{f"attn_{part}.weight": (HIDDEN, HIDDEN) for part in ("q", "k", "v", "output")},
    }
    if architecture in HEAD_NORMS:
        layer |= {f"attn_{part}_norm.weight": (HIDDEN // HEADS,) for part in "qk"}
    if architecture in BIASES:
        layer |= {f"attn_{part}.bias": (HIDDEN,) for part in "qkv"}
    shapes = {"token_embd.weight": (tokens, HIDDEN), "output_norm.weight": (HIDDEN,)}
    shapes |= {f"blk.{number}.{name}": shape for number in range(layers) for name, shape in layer.items()}
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def spread(path: Path, count: int) -> list[Path]:
    """The parts that a file with this name was written in."""
    return [path.with_name(f"{path.stem}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]


def byte_tokens(merges: Sequence[str]) -> list[str]:
    """The vocabulary that merges of bytes make, with a beginning and an end before it and words that none makes."""
    merged = dict.fromkeys(merge.replace(" ", "") for merge in merges)
    return ["<s>", "</s>", *sorted(ByteLevel.alphabet()), *merged, *WHOLE_WORDS]
