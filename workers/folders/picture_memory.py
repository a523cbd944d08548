"""How much memory drawing takes, from a folder's files. Nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_server.workers.folders.model_files import INDEX, read_json, weight_files
from mlx_server.workers.folders.picture_types import PARTS
from mlx_server.workers.folders.safetensors_header import parameters, read_header

BYTES = 4
"""Of a number: activations are float32."""

PIXELS_PER_TOKEN = 16 * 16
PROMPT_TOKENS = 512
SAMPLE_SIZE = 1024
"""The sides of usual pictures, where the autoencoder's configuration names no others."""

BLOCK_COPIES = 6
"""How often a transformer's block holds its input's width at once: the residual, queries, keys, values, and outputs."""

DECODER_COPIES = 6
"""How often the autoencoder holds its widest layer of full size at once, where convolutions are not unfolded."""


@dataclass(frozen=True)
class DrawingSize:
    """What the files say of a model that draws: bytes and numbers of its weights, how they are held, and the bytes that
    a step for a picture of usual size takes beside them."""

    stored_bytes: int
    parameters: int
    quantisation: str | None
    step_bytes: int


def read_drawing_size(folder: Path) -> DrawingSize:
    """Read the configurations and the beginnings of the weights. Raises NotAModel, HeaderError or OSError."""
    stored = numbers = 0
    bits: int | None = None
    for part in PARTS:
        packed = packed_bits(folder / part)
        bits = bits or packed
        for file in weight_files(folder / part):
            tensors = read_header(file)
            stored += sum(tensor.nbytes for tensor in tensors.values())
            numbers += parameters(tensors, packed)
    transformer = read_json(folder / "transformer", "config.json")
    vae = read_json(folder / "vae", "config.json")
    side = whole(vae, "sample_size", SAMPLE_SIZE)
    return DrawingSize(stored, numbers, f"{bits}-bit" if bits else None, step_bytes(transformer, vae, side, side))


def packed_bits(part: Path) -> int | None:
    """The bits of quantised weights, as mlx-vlm notes them beside the shards; None where they are not packed."""
    if not (part / INDEX).is_file():
        return None
    metadata = read_json(part, INDEX).get("metadata")
    level = str(metadata.get("quantization_level", "")) if isinstance(metadata, Mapping) else ""
    return int(level) if level.isdecimal() else None


def step_bytes(transformer: Mapping[str, Any], vae: Mapping[str, Any], width: int, height: int) -> int:
    """What a step for a picture of `width` by `height` pixels takes: the larger of a block of the transformer and of
    the autoencoder's last layers."""
    tokens = width * height // PIXELS_PER_TOKEN + PROMPT_TOKENS
    heads = whole(transformer, "num_attention_heads", 30) * whole(transformer, "attention_head_dim", 128)
    across = whole(transformer, "dim", heads)
    inside = whole(transformer, "intermediate_size", across * 8 // 3)
    channels = vae.get("block_out_channels")
    widest = max(channels[:2]) if isinstance(channels, list) and channels else 256
    block = tokens * (BLOCK_COPIES * across + 2 * inside)
    return BYTES * max(block, width * height * widest * DECODER_COPIES)


def whole(config: Mapping[str, Any], key: str, default: int) -> int:
    """A whole number of a configuration."""
    value = config.get(key)
    return value if isinstance(value, int) else default
