"""Inputs with pictures among their tokens, as a model's own processor makes them. Tokenizer's thread only."""

from __future__ import annotations

from collections.abc import Callable, Collection

from mlx_server.schemas.embedding import EmbeddingInput, Truncation
from mlx_server.schemas.errors import InvalidRequest
from mlx_server.workers.engine.computation import Item
from mlx_server.workers.engine.embeddings_of import WithMedia
from mlx_server.workers.engine.input_texts import InputTexts, too_long
from mlx_server.workers.engine.vision.inputs import InputReader

Show = Callable[[str, str, int], str]
"""A prompt, a text and a number of pictures as the model reads them, with its own mark for each picture."""


def shown_inputs(reader: InputReader, texts: InputTexts, show: Show, others: Collection[int] = ()) -> WithMedia:
    """What has pictures is never cut. `others` are ids that stand for what no request has, as films."""

    def with_media(given: EmbeddingInput, before: str, truncation: Truncation | None) -> Item:
        reader.check(given.media)
        text = text_beside(given)
        most = texts.most(truncation)
        whole = show(before, text, len(given.media))
        ids, prepared = reader.read(whole, given.media, special=True, param=given.param)
        if most is not None and len(ids) > most:
            raise too_long(given.param, len(ids), most, "What has pictures is not cut.")
        if not set(others).isdisjoint(ids):
            raise InvalidRequest(f"`{given.param}` has a token that stands for a film, which can't be text.", given.param)
        return Item(texts.checked(ids, given.param), media=given.media, prepared=prepared)

    return with_media


def text_beside(given: EmbeddingInput) -> str:
    """The text that stands beside an input's pictures. Raises InvalidRequest for token ids."""
    if isinstance(given.content, str):
        return given.content
    raise InvalidRequest(f"`{given.param}`: token ids can't stand beside pictures, send text.", given.param)
