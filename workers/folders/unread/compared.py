"""Which types of models were compared with transformers: of others nobody knows whether they are computed alike.

`compared.json` is written by `make fidelity`, with docs/models.md: by what computes them, the types of which at least
one variant was computed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from mlx_server.workers.folders.known_types import Library
from mlx_server.workers.folders.unread.keys import usual_config

FILE = Path(__file__).with_name("compared.json")

Part = Library | Literal["embeddings", "rerankers"]
"""What computes a model: a library's class, or this server's engine round one."""


@cache
def compared_types() -> Mapping[Part, frozenset[str]]:
    """The types by what computes them."""
    return {part: frozenset(types) for part, types in json.loads(FILE.read_text(encoding="utf-8")).items()}


def comparison_note(config: Mapping[str, Any], part: Part) -> list[str]:
    """What to say of a model, when it is loaded, that nobody has compared."""
    kind = str(config.get("model_type"))
    if kind in compared_types()[part]:
        return []
    if not usual_config(kind):
        return [f"{kind}: transformers has no such type to compare with"]
    return [f"{kind}: never compared with transformers here"]
