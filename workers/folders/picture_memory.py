"""How much memory drawing takes, from a folder's files and the pictures' size. Nothing is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_server.workers.folders.model_files import read_json
from mlx_server.workers.folders.picture_types import PARTS, weight_files
from mlx_server.workers.folders.safetensors_header import read_header

BYTES = 4
"""Of a number: activations are float32."""

PIXELS_PER_TOKEN = 16 * 16
PROMPT_TOKENS = 512
BLOCK_COPIES = 6
"""How often a transformer's block holds its input's width at once: the residual, queries, keys, values, and outputs."""

DECODER_COPIES = 4
"""How often the autoencoder holds its widest layer at once, in the pictures' full size."""


@dataclass(frozen=True)
class DrawingSize:
    """What the files say of a model that draws: bytes and numbers of its weights, and the widths of its networks."""

    stored_bytes: int
    parameters: int
    width: int
    inner_width: int
    decoder_width: int


def read_drawing_size(folder: Path) -> DrawingSize:
    """Read the configurations and the beginnings of the weights. Raises NotAModel, HeaderError or OSError."""
    tensors = [
        tensor for part in PARTS for file in weight_files(folder / part) for tensor in read_header(file).values()
    ]
    transformer = read_json(folder / "transformer", "config.json")
    vae = read_json(folder / "vae", "config.json")
    width = whole(transformer, "dim", 3840)
    return DrawingSize(
        stored_bytes=sum(tensor.nbytes for tensor in tensors),
        parameters=sum(tensor.size for tensor in tensors),
        width=width,
        inner_width=whole(transformer, "intermediate_size", width * 8 // 3),
        decoder_width=max([128, *vae.get("block_out_channels", ())[:2]]),
    )


def whole(config: dict[str, Any], key: str, default: int) -> int:
    """A whole number of a configuration."""
    value = config.get(key)
    return value if isinstance(value, int) else default


def activation_bytes(size: DrawingSize, width: int, height: int, together: int = 1) -> int:
    """What one step for so many pictures of `width` by `height` pixels takes beside the weights, in bytes: the larger
    of a block of the transformer and of the autoencoder's last layers, which decode one picture at a time."""
    tokens = together * (width * height // PIXELS_PER_TOKEN + PROMPT_TOKENS)
    block = tokens * (BLOCK_COPIES * size.width + 2 * size.inner_width) * BYTES
    decoder = width * height * size.decoder_width * DECODER_COPIES * BYTES
    return max(block, decoder)
