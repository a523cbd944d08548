"""Inputs of embeddings that have pictures, as a model that sees takes them. Tokenizer's thread only."""

from __future__ import annotations

from mlx_server.schemas.internal.embedding import EmbeddingInput, Truncation
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, Message
from mlx_server.workers.engine.embed.inputs.input_lengths import too_long
from mlx_server.workers.engine.embed.inputs.job import Item
from mlx_server.workers.engine.embed.requests import WithMedia
from mlx_server.workers.engine.prompt.prompts import PromptMaker


def conversation_inputs(prompts: PromptMaker, limit: int | None) -> WithMedia:
    """Pictures with a text are what a user says in a conversation: so the model has learned to see them."""

    def with_media(given: EmbeddingInput, before: str, truncation: Truncation | None) -> Item:
        if not isinstance(given.content, str):
            raise InvalidRequest(f"`{given.param}`: token ids can't stand beside pictures, send text.", given.param)
        said = Message("user", before + given.content, media=given.media)
        read = prompts.read(ChatPrompt((said,), opens_answer=False, param=given.param))
        wanted = None if truncation is None else truncation.tokens
        most = min((n for n in (limit, wanted) if n is not None), default=None)
        if most is not None and len(read.tokens) > most:
            raise too_long(given.param, len(read.tokens), most, truncation, "What has pictures is not cut.")
        return Item(tuple(read.tokens), media=given.media, prepared=read.media)

    return with_media
