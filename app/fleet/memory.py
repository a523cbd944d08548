"""How much memory a model will need, before it is loaded."""

from __future__ import annotations

from mlx_server.app.fleet.errors import NotServable
from mlx_server.app.fleet.kinds import read
from mlx_server.app.settings import ModelSettings, ModelType

OVERHEAD_BYTES = 400 << 20
"""A worker's own: its interpreter, MLX, the tokenizer."""

SEQUENCE_TOKENS = 2048
"""What a sequence is taken to have on average."""


def need_bytes(settings: ModelSettings, model_type: ModelType) -> int:
    """All workers of a model together; reads the headers of its files. 0 for what is not on this machine yet."""
    try:
        found = read(settings)
    except NotServable:
        return 0
    if found is None:
        return 0
    cache = (found.kv_bytes_per_token or 0) * SEQUENCE_TOKENS * settings.rows(model_type)
    return settings.replicas * (found.weight_bytes + OVERHEAD_BYTES + (cache if model_type in ("lm", "vlm") else 0))
