"""Which of a model's weights a rank reads: those of a pipeline's other layers need not be on its disk."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_server.workers.engine.loading.loading import read_model
from mlx_server.workers.engine.ranks.sharing import divides_layers, keep_layers
from mlx_server.workers.folders.model_files import visible
from mlx_server.workers.folders.safetensors_header import read_header


@dataclass(frozen=True, slots=True)
class Numbered:
    """A rank before it has joined the others."""

    number: int
    of: int

    def rank(self) -> int:
        """Counted from 0."""
        return self.number

    def size(self) -> int:
        """How many there are."""
        return self.of


def files_read(folder: Path, rank: int, size: int) -> set[str]:
    """The names of the weights' files of which this rank of so many reads anything. Of the files in `folder` only the
    headers are read. Raises ModelLoadError."""
    model, config, _ = read_model(folder, "native")
    files = visible(folder.glob("*.safetensors"))
    if divides_layers(model, config, size):
        return {file.name for file in files}
    everywhere = modules(model)
    keep_layers(model, Numbered(rank, size))
    kept = modules(model)
    return {file.name for file in files if any(owner(name, everywhere) in kept for name in read_header(file))}


def modules(model: Any) -> set[str]:
    """The names of all parts of a model; its own is empty."""
    return {name for name, _ in model.named_modules()}


def owner(tensor: str, names: Collection[str]) -> str:
    """The innermost part of a model that a tensor's name is within, as the file has it: mlx-lm may call it otherwise
    or make one of several, but within the same layer."""
    while tensor and tensor not in names:
        tensor = tensor.rpartition(".")[0]
    return tensor
