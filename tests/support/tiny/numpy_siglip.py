"""SigLIP's tower for pictures in NumPy, by its published formulas: what an implementation is compared with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class NumpySiglip:
    """The tower of a folder whose weights have Transformers' names."""

    def __init__(self, folder: Path) -> None:
        import mlx.core as mx

        config = json.loads((folder / "config.json").read_text())["vision_config"]
        tensors: Any = mx.load(str(folder / "model.safetensors"))
        self._weights = {name: np.array(array, dtype=np.float64) for name, array in tensors.items()}
        self._heads, self._layers = config["num_attention_heads"], config["num_hidden_layers"]
        self._patch = config["patch_size"]

    def vector(self, pixels: Array) -> Array:
        """A picture [3, H, W], normalised, to its vector of length 1."""
        own = "vision_model."
        kernel, size = self._weights[f"{own}embeddings.patch_embedding.weight"], self._patch
        rows, columns = pixels.shape[1] // size, pixels.shape[2] // size
        cut = pixels.reshape(3, rows, size, columns, size).transpose(1, 3, 0, 2, 4).reshape(rows * columns, -1)
        x = cut @ kernel.reshape(len(kernel), -1).T + self._weights[f"{own}embeddings.patch_embedding.bias"]
        x = x + self._weights[f"{own}embeddings.position_embedding.weight"]
        for number in range(self._layers):
            layer = f"{own}encoder.layers.{number}."
            y = self._norm(f"{layer}layer_norm1.", x)
            q, k, v = (self._linear(f"{layer}self_attn.{part}_proj.", y) for part in "qkv")
            x = x + self._linear(f"{layer}self_attn.out_proj.", self._attention(q, k, v))
            x = x + self._mlp(f"{layer}mlp.", self._norm(f"{layer}layer_norm2.", x))
        x = self._norm(f"{own}post_layernorm.", x)
        head = f"{own}head."
        weights = np.split(self._weights[f"{head}attention.in_proj_weight"], 3)
        biases = np.split(self._weights[f"{head}attention.in_proj_bias"], 3)
        probe = self._weights[f"{head}probe"][0]
        q, k, v = (y @ w.T + b for y, w, b in zip((probe, x, x), weights, biases, strict=True))
        x = self._linear(f"{head}attention.out_proj.", self._attention(q, k, v))
        vector: Array = (x + self._mlp(f"{head}mlp.", self._norm(f"{head}layernorm.", x)))[0]
        return vector / np.linalg.norm(vector)

    def _attention(self, q: Array, k: Array, v: Array) -> Array:
        q, k, v = (x.reshape(len(x), self._heads, -1).transpose(1, 0, 2) for x in (q, k, v))
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = weights / weights.sum(axis=-1, keepdims=True) @ v
        return mixed.transpose(1, 0, 2).reshape(q.shape[1], -1)

    def _mlp(self, name: str, x: Array) -> Array:
        y = self._linear(f"{name}fc1.", x)
        return self._linear(f"{name}fc2.", 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3))))

    def _linear(self, name: str, x: Array) -> Array:
        return x @ self._weights[f"{name}weight"].T + self._weights[f"{name}bias"]

    def _norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt(centred.var(axis=-1, keepdims=True) + 1e-6)
        return scaled * self._weights[f"{name}weight"] + self._weights[f"{name}bias"]
