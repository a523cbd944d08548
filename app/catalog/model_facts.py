"""What is known of a model before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mlx_server.app.config.settings import ModelType


class Kind(StrEnum):
    """What a model is for."""

    LANGUAGE = "language"
    VISION = "vision"
    EMBEDDING = "embedding"
    RERANKER = "reranker"
    AUDIO = "audio"
    IMAGE = "image"

    @property
    def public(self) -> str:
        """What clients call it."""
        return "text" if self is Kind.LANGUAGE else self.value


MODEL_TYPES: dict[Kind, ModelType] = {
    Kind.LANGUAGE: "lm",
    Kind.VISION: "vlm",
    Kind.EMBEDDING: "embeddings",
    Kind.RERANKER: "rerank",
    Kind.AUDIO: "audio",
    Kind.IMAGE: "image",
}
"""How each kind is served, in the words of `--model-type`."""


@dataclass(frozen=True)
class ModelOnDisk:
    """A model folder, or a .gguf file.

    `weight_bytes` are those of its weights' files and `parameters` their numbers, packed ones counted one by one.
    `kv_bytes_per_token` is what a token of one sequence keeps in the KV cache in half precision, `step_bytes` what a
    step of a model that draws takes beside its weights. What a model's files do not say is None.
    """

    path: Path
    kind: Kind
    architecture: str
    quantisation: str | None
    weight_bytes: int
    parameters: int | None = None
    context_length: int | None = None
    kv_bytes_per_token: int | None = None
    step_bytes: int | None = None
