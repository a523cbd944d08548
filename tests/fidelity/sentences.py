"""What sentence-transformers' side and MLX's have in common: texts, and how weights get their names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fidelity.tiny import weight
from support.tiny.encoders import WORDS

COLUMNS = 16
"""Numbers that are kept of each vector."""

LENGTHS = (1, 5, 24, 70, 150)
"""Words of the texts: fewer than a window has, and more."""


def text(length: int, seed: int = 0) -> str:
    """So many words that every tokenizer of these models knows."""
    return " ".join(np.random.default_rng((length, seed)).choice(WORDS, length).tolist())


TEXTS = tuple(text(length) for length in LENGTHS)
PAIRS = tuple((text(4, seed=1), text(length, seed=2)) for length in LENGTHS)


def file_weights(path: str, shapes: Mapping[str, list[int]]) -> dict[str, np.ndarray]:
    """Those of a file in a model's folder, by the path and their names; a classifier's are large, so that its scores
    are far apart."""
    return {
        name: weight(f"{path}:{name}", tuple(shape)) * np.float32(2 if "classifier" in name else 1)
        for name, shape in shapes.items()
    }


def write_files(folder: Path, files: Mapping[str, Any]) -> None:
    """The small files of a folder, by their paths in it."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
