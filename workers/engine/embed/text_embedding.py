"""A language model that also embeds: the mean of its last hidden states over a text's tokens, at length 1."""

from __future__ import annotations

from typing import Any, NamedTuple

from mlx_server.schemas.internal.embedding import EmbeddingRequest, ScoreRequest
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.workers.engine.embed.embedder import Embedder, HiddenStates
from mlx_server.workers.engine.embed.engine import EmbeddingEngine
from mlx_server.workers.engine.embed.hidden import batching_of
from mlx_server.workers.engine.embed.inputs.input_prompts import InputPrompts
from mlx_server.workers.engine.embed.inputs.input_texts import InputTexts
from mlx_server.workers.engine.embed.inputs.job import EmbeddingJob, Item
from mlx_server.workers.engine.embed.pooling import l2_normalised
from mlx_server.workers.engine.embed.requests import EmbeddingMaker, WithMedia
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.engine.runtime.kept_trials import KeptTrials

CPU_TOKENS_BESIDE = 64


class Embeds(NamedTuple):
    """What a trial has shown: how many tokens are computed together, and the vectors' length."""

    tokens: int
    dimensions: int


class TextEmbedding(NamedTuple):
    """What a handler needs: the requests' maker, the engine for its work, and the vectors' length; all None where the
    model makes no embeddings."""

    maker: EmbeddingMaker | None = None
    engine: EmbeddingEngine | None = None
    dimensions: int | None = None

    @property
    def engines(self) -> tuple[EmbeddingEngine, ...]:
        """The engine, if there is one."""
        return () if self.engine is None else (self.engine,)

    def prepare(self, ticket: int, request: EmbeddingRequest | ScoreRequest) -> EmbeddingJob:
        """The work for a request. Raises InvalidRequest. Tokenizer's thread only."""
        if self.maker is None:
            raise InvalidRequest("This model makes no embeddings.", "model")
        if isinstance(request, EmbeddingRequest):
            return self.maker.vectors(ticket, request)
        return self.maker.similarities(ticket, request)


def embedding_beside(
    hidden_states: HiddenStates | None,
    tokenizer: Any,
    vocab_size: int,
    context_length: int | None,
    batch_tokens: int,
    with_media: WithMedia | None = None,
    *,
    kept: KeptTrials,
) -> TextEmbedding:
    """Embeddings beside an engine that writes; tries the model, unless that is `kept`, so engine thread only.

    `tokenizer` is transformers' own, which must be a fast one. `batch_tokens` bounds a step, and with it how long
    what is being written has to wait; on a CPU that is long soon.
    """
    if hidden_states is None or not hasattr(tokenizer, "backend_tokenizer"):
        return TextEmbedding()
    most = min(batch_tokens, CPU_TOKENS_BESIDE) if platform.on_cpu() else batch_tokens
    embedder = Embedder(hidden_states, ("mean",), (l2_normalised,))
    trial = f"embeddings of {most} tokens"
    if (embeds := kept.get(trial, Embeds)) is None:
        if (tokens := batching_of(hidden_states, vocab_size, most)) is None:
            return TextEmbedding()
        embeds = Embeds(tokens, embedder([Item((0,))]).shape[-1])
        kept.put(trial, embeds)
    texts = InputTexts(tokenizer, vocab_size, context_length)
    maker = EmbeddingMaker(texts, InputPrompts(), embeds.dimensions, with_media)
    return TextEmbedding(maker, EmbeddingEngine(embedder, embeds.tokens), embeds.dimensions)
