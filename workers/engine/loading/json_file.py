"""JSON files of models, whatever is in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlx_server.workers.errors import ModelLoadError


def read_json(path: Path) -> Any:
    """A file's content. Raises ModelLoadError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path} can't be read: {error}") from None
