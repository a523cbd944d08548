"""Models that make a vector for each token, and compare texts by the best matches among them."""

from __future__ import annotations

from pathlib import Path

from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.folders.encoder_types import MANY_VECTORS


class MakesVectorPerToken(ModelLoadError):  # noqa: N818 - named for what it says
    """Raised when a model makes many vectors of one input, where an embedding is one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} {MANY_VECTORS}")
