"""Which models make vectors or scores, by the `model_type` of their config.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Architecture:
    """Where mlx-vlm has it, how it pools if no file says so, and the activation that its class has built in.

    `stands_in`: its authors publish it as code of their own, which mlx-vlm's class takes the place of.
    """

    module: str
    pooling: str
    activation: str | None = None
    stands_in: bool = False


ARCHITECTURES = {
    "bert": Architecture("bert", "mean", "gelu"),
    "xlm-roberta": Architecture("xlm_roberta", "mean", "gelu"),
    "modernbert": Architecture("modernbert", "mean", "gelu"),
    "qwen3": Architecture("qwen3_embedding", "lasttoken"),
    "gemma3_text": Architecture("gemma3_embedding", "mean"),
    "llama_bidirec": Architecture("llama_bidirec", "mean", stands_in=True),
    "lfm2": Architecture("lfm2_embedding", "cls"),
    "ministral3": Architecture("ministral3_embedding", "mean"),
}
"""Types that embed texts, with their classes."""

ENCODERS = ("bert", "xlm-roberta", "modernbert")
"""Types that can't write text. With a classifier's head they are rerankers."""

SIGHTED = ("qwen3_vl", "qwen3_vl_embedding", "embedding_gemma2", "siglip")
"""Types that embed pictures too."""

MOST_TOKENS = {"qwen3_vl": 32_768, "qwen3_vl_embedding": 32_768, "embedding_gemma2": 32_768}
"""The longest inputs of some types in tokens, whatever their config says."""

LATE_INTERACTION = frozenset({"colqwen2", "colqwen2_5", "colqwen3", "colidefics3", "colpali", "lfm2_colbert"})
"""Types that make a vector for each token, and compare texts by the best matches among them."""

MANY_VECTORS = (
    "makes a vector for each token (late interaction), and an embedding is one vector for an input:"
    " such models are not served"
)

JUDGES = ("qwen3",)
"""Language models of which some were trained to answer yes or no."""


def model_type(config: Mapping[str, Any]) -> str:
    """The key into these tables."""
    name = str(config.get("model_type", "")).lower()
    return "xlm-roberta" if name == "xlm_roberta" else name


def is_classifier(config: Mapping[str, Any]) -> bool:
    """It tells classes of texts apart, as cross-encoders do."""
    return any(name.endswith("ForSequenceClassification") for name in architectures(config))


def architectures(config: Mapping[str, Any]) -> list[str]:
    """The classes that it names; none where what it says is no list."""
    names = config.get("architectures")
    return list(map(str, names)) if isinstance(names, list) else []


def padding_id(config: Mapping[str, Any]) -> int:
    """What stands where a row has no tokens. It is masked, but must be in the vocabulary."""
    default = 1 if model_type(config) == "xlm-roberta" else 0
    given = config.get("pad_token_id")
    return given if isinstance(given, int) and 0 <= given < config.get("vocab_size", 0) else default


def no_embeddings(config: Mapping[str, Any]) -> str | None:
    """Why a model with this configuration makes no embeddings; None where it does."""
    kind = model_type(config)
    if is_classifier(config):
        return "is a cross-encoder, which makes no vectors: serve it with --model-type rerank"
    if kind in LATE_INTERACTION:
        return MANY_VECTORS
    served = (*ARCHITECTURES, *SIGHTED)
    return None if kind in served else not_served(kind, served)


def no_scores(config: Mapping[str, Any], *, pooled: bool) -> str | None:
    """Why a model with this configuration scores nothing by itself; `pooled`: it has a folder about pooling."""
    kind = model_type(config)
    if pooled:
        return "is an embedding model: serve it with --model-type embeddings"
    if kind not in (*ENCODERS, *JUDGES):
        return f"is of type {kind!r}, which is no reranker here; {', '.join((*ENCODERS, *JUDGES))} are"
    if kind not in ENCODERS and is_classifier(config):
        return f"is a classifier of type {kind!r}, which is not served"
    return None


def not_served(kind: str, served: Iterable[str]) -> str:
    """What to say of a type that is none of those."""
    return f"is of type {kind!r}, which is not served here; {', '.join(served)} are"
