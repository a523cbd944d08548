"""What a cross-encoder's folder makes of its one logit, as sentence-transformers saves and reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mlx_server.workers.engine.loading.json_file import read_json
from mlx_server.workers.errors import ModelLoadError

Activation = Callable[[float], float]
"""From a pair's logit to its score."""


def sigmoid(logit: float) -> float:
    """The logistic function."""
    return float(1 / (1 + np.exp(-np.float64(logit))))


ACTIVATIONS: dict[str, Activation] = {
    "Identity": float,
    "ReLU": lambda logit: float(np.maximum(0.0, logit)),
    "Sigmoid": sigmoid,
    "Tanh": lambda logit: float(np.tanh(np.float64(logit))),
}
"""By the names of PyTorch's classes."""


def read_activation(folder: Path, config: dict[str, Any]) -> Activation:
    """What the folder names, else the sigmoid. Raises ModelLoadError for one that is not served."""
    name = activation_name(folder, config)
    if name is None:
        return sigmoid
    found = ACTIVATIONS.get(name.rpartition(".")[2]) if name.startswith("torch.nn.") else None
    if found is None:
        raise ModelLoadError(
            f"{folder} can't be served: its scores are made with the activation {name!r}, and only"
            f" {', '.join(ACTIVATIONS)} of torch.nn are served"
        )
    return found


def activation_name(folder: Path, config: dict[str, Any]) -> str | None:
    """The class that is named in the newest of the places where sentence-transformers has kept it."""
    file = folder / "config_sentence_transformers.json"
    for settings, key in (
        (read_json(file) if file.is_file() else None, "activation_fn"),
        (config.get("sentence_transformers"), "activation_fn"),
        (config, "sbert_ce_default_activation_function"),
    ):
        if isinstance(settings, dict) and settings.get(key) is not None:
            return str(settings[key])
    return None
