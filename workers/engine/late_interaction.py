"""Models that make a vector for each token, and compare texts by the best matches among them."""

from __future__ import annotations

from pathlib import Path

from mlx_server.workers.handlers.base import ModelLoadError

LATE_INTERACTION = frozenset({"colqwen2", "colqwen2_5", "colqwen3", "colidefics3", "colpali", "lfm2_colbert"})
"""By the `model_type` of config.json."""


class MakesVectorPerToken(ModelLoadError):  # noqa: N818 - named for what it says
    """Raised when a model makes many vectors of one input, where an embedding is one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} makes a vector for each token (late interaction), and an embedding is one vector for an input:"
            " such models are not served"
        )
