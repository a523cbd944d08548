"""The networks of a folder in Diffusers' layout, read one after the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx.utils import tree_flatten

from mlx_server.schemas.internal.messages import CpuDtype, Loading
from mlx_server.workers.engine.loading.loading import evaluate
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.folders.model_files import read_tensors

COMPUTED = "inv_freq"
"""How the names of parameters end that are no weights: they follow from the configuration."""


@dataclass(frozen=True)
class Network:
    """How one is read: `load` makes it from the model's folder, `renamed` calls the weights of a file as it does."""

    load: Callable[[Path], Any]
    renamed: Callable[[Iterable[str]], Collection[str]]


@dataclass(frozen=True)
class Networks:
    """Those of a model by their folders, the bytes of their weights, and what there is to say of them."""

    parts: dict[str, Any]
    weight_bytes: int
    notes: list[str]


def read_networks(
    folder: Path, networks: Mapping[str, Network], cpu_dtype: CpuDtype, report: Callable[[Loading], None]
) -> Networks:
    """Read the weights, telling how far it is. Raises anything."""
    parts: dict[str, Any] = {}
    notes: list[str] = []
    size = 0
    for name, network in networks.items():
        part = network.load(folder)
        check_complete(folder / name, part, network)
        part, said = platform.suit_weights(part, cpu_dtype)
        size += evaluate(part, report)
        parts[name] = part
        notes += [note for note in said if note not in notes]
    return Networks(parts, size, notes)


def check_complete(folder: Path, part: Any, network: Network) -> None:
    """Refuse a network of which weights are missing: mlx-vlm would leave random ones in their place. Raises
    ModelLoadError."""
    stored = network.renamed(read_tensors(folder))
    names = [name for name, _ in tree_flatten(part.parameters()) if not name.endswith(COMPUTED)]
    missing = [name for name in names if name not in stored]
    if missing:
        more = f" and {len(missing) - 1} more weights are" if len(missing) > 1 else " is"
        raise ModelLoadError(f"{folder} is not whole: {missing[0]}{more} missing")
