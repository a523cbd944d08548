"""The words for what a model is for.

Ours are those of `--model-type`, wherever nobody else has fixed them: on the command line and in its tables, in
configuration files and in logs. The registry's file, MLX-GUI's API and the hub have words of their own.
"""

from __future__ import annotations

from enum import StrEnum

from mlx_server.app.config.settings import ModelType


class Kind(StrEnum):
    """What a model's files say that it is for, as the registry's file has it."""

    LANGUAGE = "language"
    VISION = "vision"
    EMBEDDING = "embedding"
    RERANKER = "reranker"
    AUDIO = "audio"
    IMAGE = "image"

    @property
    def model_type(self) -> ModelType:
        """What such a model is served as, unless another type is asked for."""
        return MODEL_TYPES[self]


MODEL_TYPES: dict[Kind, ModelType] = {
    Kind.LANGUAGE: "lm",
    Kind.VISION: "vlm",
    Kind.EMBEDDING: "embeddings",
    Kind.RERANKER: "rerank",
    Kind.AUDIO: "audio",
    Kind.IMAGE: "image",
}

MLX_GUI_TYPES: dict[ModelType, str] = {
    "lm": "text",
    "vlm": "vision",
    "embeddings": "embedding",
    "rerank": "reranker",
    "audio": "audio",
    "image": "image",
    "scripted": "text",
}
"""`type` in `/v1/models` and in what the management API says of a model."""

PIPELINES: dict[ModelType, str] = {
    "lm": "text-generation",
    "vlm": "image-text-to-text",
    "embeddings": "feature-extraction",
    "rerank": "text-ranking",
    "audio": "audio-to-audio",
    "image": "text-to-image",
    "scripted": "text-generation",
}
"""The hub's pipelines; MLX-GUI's `/v1/manager/status` has them."""


def model_type_of(pipeline: str | None) -> str | None:
    """Our word for one of these pipelines; another one stays as it is."""
    return next((model_type for model_type, name in PIPELINES.items() if name == pipeline), pipeline)


def flag_word(told: str) -> str:
    """Our word for what MLX-GUI or the hub's search calls a model; another one stays as it is."""
    served = {word: model_type for model_type, word in MLX_GUI_TYPES.items() if model_type != "scripted"}
    return {**served, "multimodal": "vlm"}.get(told, told)
