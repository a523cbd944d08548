"""A BERT in NumPy, from the paper's formulas and the names of the weights: what a server's vectors are held against."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

Array = npt.NDArray[np.float64]


class NumpyBert:
    """One folder's encoder. Everything is float64, one text at a time, without padding."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        self._weights = {name: w.astype(np.float64) for name, w in load_file(folder / "model.safetensors").items()}

    def mean_vector(self, ids: list[int]) -> Array:
        """The mean of the last hidden states, of length 1."""
        mean = self.hidden_states(ids).mean(axis=0)
        return mean / np.linalg.norm(mean)

    def hidden_states(self, ids: list[int], types: list[int] | None = None) -> Array:
        """The last layer's, one row for each token."""
        table = "embeddings.{}_embeddings.weight".format
        x = self._weights[table("word")][ids] + self._weights[table("position")][: len(ids)]
        x = self._norm(x + self._weights[table("token_type")][types or [0] * len(ids)], "embeddings.LayerNorm")
        for number in range(self.config["num_hidden_layers"]):
            x = self._layer(x, f"encoder.layer.{number}")
        return x

    def score(self, ids: list[int], types: list[int]) -> float:
        """A classifier's one score, between 0 and 1."""
        pooled = np.tanh(self._linear(self.hidden_states(ids, types)[0], "pooler.dense"))
        return float(1 / (1 + np.exp(-self._linear(pooled, "classifier")[0])))

    def _layer(self, x: Array, name: str) -> Array:
        x = self._norm(x + self._attention(x, f"{name}.attention"), f"{name}.attention.output.LayerNorm")
        inner = self._linear(x, f"{name}.intermediate.dense")
        inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        return self._norm(x + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _attention(self, x: Array, name: str) -> Array:
        heads = self.config["num_attention_heads"]
        q, k, v = (
            self._linear(x, f"{name}.self.{part}").reshape(len(x), heads, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = np.exp(q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1]))
        mixed: Any = (scores / scores.sum(axis=-1, keepdims=True)) @ v
        return self._linear(mixed.swapaxes(0, 1).reshape(len(x), -1), f"{name}.output.dense")

    def _linear(self, x: Array, name: str) -> Array:
        return x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self.config.get("layer_norm_eps", 1e-12))
        return scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
