"""From requests for vectors, or for how alike texts are, to what is computed for them. Tokenizer's thread only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from mlx_server.schemas.internal.embedding import EmbeddingInput, EmbeddingRequest, ScoreRequest, Truncation
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.workers.engine.embed.inputs.framed_text import Frame, FramedText, plain_frame
from mlx_server.workers.engine.embed.inputs.input_prompts import InputPrompts
from mlx_server.workers.engine.embed.inputs.input_texts import InputTexts
from mlx_server.workers.engine.embed.inputs.job import EmbeddingJob, Item, computation, distinct
from mlx_server.workers.engine.embed.results import Similarities, Vectors

WithMedia = Callable[[EmbeddingInput, str, Truncation | None], Item]
"""An input with pictures, and the text that stands before its own, as the model takes it. Raises InvalidRequest."""


class EmbeddingMaker:
    """Turns requests into computations. `dimensions` is the length of the model's vectors."""

    def __init__(
        self,
        texts: InputTexts,
        prompts: InputPrompts,
        dimensions: int,
        with_media: WithMedia | None = None,
        frame: Frame = plain_frame,
    ) -> None:
        self._texts = texts
        self._prompts = prompts
        self._dimensions = dimensions
        self._with_media = with_media
        self._frame = frame

    def vectors(self, ticket: int, request: EmbeddingRequest) -> EmbeddingJob:
        """A vector for each input. Raises InvalidRequest."""
        if request.dimensions is not None and not 1 <= request.dimensions <= self._dimensions:
            raise InvalidRequest(
                f"`dimensions` must be from 1 to {self._dimensions}, the length of this model's vectors.", "dimensions"
            )
        before = self._prompts.before(request)
        if before:
            check_no_ids(request)
        items = self._items(request.inputs, before, request.truncation)
        items = [replace(item, tenant=request.tenant) if item.media else item for item in items]
        return computation(ticket, items, Vectors(ticket, request.dimensions))

    def similarities(self, ticket: int, request: ScoreRequest) -> EmbeddingJob:
        """The cosine of each pair's vectors; every text is computed once, and only documents are cut.

        Raises InvalidRequest.
        """
        if request.instruction is not None:
            raise InvalidRequest("`instruction` is for rerankers, and this model compares embeddings.", "instruction")
        query, document = self._prompts.of_type("query"), self._prompts.of_type("document")
        queries = [(self._frame(query, pair.query), pair.query_param) for pair in request.pairs]
        documents = [(self._frame(document, pair.document), pair.document_param) for pair in request.pairs]
        items, numbers = distinct([*self._once(queries, None), *self._once(documents, request.truncation)])
        return computation(ticket, items, Similarities(ticket, zip(numbers, numbers[len(queries) :], strict=False)))

    def _once(self, texts: Sequence[tuple[FramedText, str]], truncation: Truncation | None) -> list[Item]:
        """Texts, each with its name; those that come several times are tokenised once."""
        fields: dict[FramedText, str] = {}
        for framed, field in texts:
            fields.setdefault(framed, field)
        made = dict(zip(fields, self._texts.texts(list(fields), list(fields.values()), truncation), strict=True))
        return [made[framed] for framed, _ in texts]

    def _items(self, inputs: Iterable[EmbeddingInput], before: str, truncation: Truncation | None) -> list[Item]:
        """All inputs in order, their texts tokenised together."""
        texts: list[FramedText] = []
        fields: list[str] = []
        places: list[Item | None] = []
        for given in inputs:
            if given.media:
                places.append(self._seen(given, before, truncation))
            elif isinstance(given.content, str):
                places.append(None)
                texts.append(self._frame(before, given.content))
                fields.append(given.param)
            else:
                places.append(self._texts.ids(given.content, given.param, truncation))
        made = iter(self._texts.texts(texts, fields, truncation))
        return [next(made) if item is None else item for item in places]

    def _seen(self, given: EmbeddingInput, before: str, truncation: Truncation | None) -> Item:
        if self._with_media is None:
            raise InvalidRequest("This model makes embeddings of texts only.", given.media[0].param)
        return self._with_media(given, before, truncation)


def check_no_ids(request: EmbeddingRequest) -> None:
    """No prompt that a request asks for can stand before token ids. Raises InvalidRequest."""
    asked = [name for name in ("prompt", "prompt_name", "input_type") if getattr(request, name) is not None]
    if asked and any(not isinstance(given.content, str) for given in request.inputs):
        raise InvalidRequest(
            f"`{asked[0]}` puts a text before inputs, and token ids are taken as they are: send texts.", asked[0]
        )
