"""The families of models that embed pictures, by the `model_type` of config.json."""

from __future__ import annotations

from mlx_server.workers.engine.embed.multimodal.embedding_gemma2 import EMBEDDING_GEMMA2
from mlx_server.workers.engine.embed.multimodal.qwen3_vl import QWEN3_VL
from mlx_server.workers.engine.embed.multimodal.siglip import SIGLIP

FAMILIES = {
    "qwen3_vl": QWEN3_VL,
    "qwen3_vl_embedding": QWEN3_VL,
    "embedding_gemma2": EMBEDDING_GEMMA2,
    "siglip": SIGLIP,
}
