"""Inputs with pictures among their tokens. Tokenizer's thread only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mlx_server.schemas.internal.embedding import EmbeddingInput, Truncation
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.workers.engine.embed.inputs.input_lengths import too_long
from mlx_server.workers.engine.embed.inputs.input_texts import InputTexts
from mlx_server.workers.engine.embed.inputs.job import Item
from mlx_server.workers.engine.embed.requests import WithMedia
from mlx_server.workers.engine.media.media import DecodedMedia, check_kinds
from mlx_server.workers.engine.vision.inputs import MediaInputs
from mlx_server.workers.errors import one_line

NOT_CUT = "What has pictures is not cut."

ReadInput = Callable[[EmbeddingInput, str, str], tuple[Sequence[int], MediaInputs]]
"""An input, the prompt before its text, and the text, to token ids and what the model takes beside them.

Raises InvalidRequest.
"""


def picture_inputs(read: ReadInput, texts: InputTexts, not_sent: Collection[int] = ()) -> WithMedia:
    """What has pictures is never cut. `not_sent` are ids that stand for media which no request has."""

    def with_media(given: EmbeddingInput, before: str, truncation: Truncation | None) -> Item:
        check_kinds(given.media, ("image",))
        most = texts.most(truncation)
        text = text_beside(given)
        texts.lengths.check(before + text, given.param, most, truncation, NOT_CUT)
        ids, prepared = read(given, before, text)
        if most is not None and len(ids) > most:
            raise too_long(given.param, len(ids), most, truncation, NOT_CUT)
        if not set(not_sent).isdisjoint(ids):
            message = f"`{given.param}` has a token that stands for a medium, which can't be text."
            raise InvalidRequest(message, given.param)
        return Item(texts.checked(ids, given.param), media=given.media, prepared=prepared)

    return with_media


@contextmanager
def blaming(given: EmbeddingInput) -> Iterator[None]:
    """Within this, an input's pictures are to blame for whatever a processor raises: InvalidRequest says so."""
    try:
        yield
    except InvalidRequest:
        raise
    except Exception as error:  # noqa: BLE001 - a processor may raise anything
        param = given.media[0].param
        raise InvalidRequest(f"`{param}`: {one_line(error)}", param) from None


def pictures_of(given: EmbeddingInput) -> list[Any]:
    """An input's pictures, which have been decoded."""
    assert all(isinstance(one, DecodedMedia) for one in given.media)
    return [one.content for one in given.media if isinstance(one, DecodedMedia)]


def text_beside(given: EmbeddingInput) -> str:
    """The text that stands beside an input's pictures. Raises InvalidRequest for token ids."""
    if isinstance(given.content, str):
        return given.content
    raise InvalidRequest(f"`{given.param}`: token ids can't stand beside pictures, send text.", given.param)
