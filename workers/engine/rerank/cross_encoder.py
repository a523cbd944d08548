"""Cross-encoders with a classifier's head: one logit for a query and a document that are read together."""

from __future__ import annotations

from collections.abc import Sequence as Several
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_server.workers.engine.embed.encoder_models import padded
from mlx_server.workers.engine.embed.engine import Compute
from mlx_server.workers.engine.embed.inputs.job import Item, Rows
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.folders.encoder_types import is_classifier, padding_id


def check_labels(config: dict[str, Any]) -> None:
    """A cross-encoder has one label, its relevance. Raises ModelLoadError for anything else."""
    if not is_classifier(config):
        raise ModelLoadError(
            "the model scores no pairs of texts: it is no …ForSequenceClassification. An embedding model is served"
            " with --model-type embeddings"
        )
    labels = config.get("num_labels") or len(config.get("id2label") or [0])
    if labels != 1:
        raise ModelLoadError(f"the model is no reranker: it tells {labels} classes apart, and a reranker has one label")


def logit_of(model: Any, config: dict[str, Any]) -> Compute:
    """The classifier's one logit for each pair."""
    padding = padding_id(config)

    def compute(items: Several[Item]) -> Rows:
        ids, mask, types = padded(items, padding)
        logits = model(ids, attention_mask=mask, token_type_ids=types).logits
        return np.array(logits.astype(mx.float32))

    return compute
