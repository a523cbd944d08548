"""What nobody looks at in the config of a model on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_server.app.catalog.model_facts import Kind
from mlx_server.app.registry.rows import ModelRow
from mlx_server.workers.known_types import Library
from mlx_server.workers.model_files import read_json
from mlx_server.workers.unread_keys import at, unread_keys, usual_config

LIBRARIES: dict[Kind, Library] = {Kind.LANGUAGE: "mlx_lm", Kind.VISION: "mlx_vlm"}
"""Whose classes compute models of a kind. Encoders are computed by classes of this server, which refuse the rest."""


@dataclass(frozen=True)
class UnreadKey:
    """A key that says something, and what transformers has for it where a config says nothing; None if it has nothing
    or does not know the type."""

    key: str
    value: Any
    usual: Any


def unread_of(model: ModelRow) -> list[UnreadKey]:
    """The keys of a model in a folder. Raises NotAModel."""
    folder = Path(model.path or "")
    library = LIBRARIES.get(model.type)
    if library is None or not folder.is_dir():
        return []
    config = read_json(folder, "config.json")
    usual = usual_config(str(config.get("model_type")))
    return [UnreadKey(key, value, at(usual, key)) for key, value in sorted(unread_keys(config, library).items())]
