"""What models may be called, and which one a request means. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from mlx_server.app.config.settings import ModelSettings

NAME = re.compile(r"[A-Za-z0-9._:@+-][A-Za-z0-9._/:@+-]{0,127}", re.ASCII)
NAME_RULE = "1 to 128 letters, digits and ._-/:@+, without '..' and no / at the start"


def is_name(text: str) -> bool:
    """Whether a model may be called so."""
    return NAME.fullmatch(text) is not None and ".." not in text


def index(models: Iterable[ModelSettings]) -> dict[str, ModelSettings]:
    """The models by their names and aliases; a name wins over another's alias. Raises ValueError for a name twice."""
    models = list(models)
    found: dict[str, ModelSettings] = {}
    for model in models:
        if model.public_name in found:
            raise ValueError(f"two models are called {model.public_name!r}: give one another name.")
        found[model.public_name] = model
    for model in models:
        for alias in model.aliases:
            if found.setdefault(alias, model) is not model:
                raise ValueError(f"two models are called {alias!r}: give one another name.")
    return found


def listed(names: Mapping[str, object], most: int = 20) -> str:
    """Names for a message."""
    text = ", ".join(map(repr, list(names)[:most]))
    return text + (", ..." if len(names) > most else "")
