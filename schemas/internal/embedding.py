"""Inside types of what is computed without writing text: embeddings and scores."""

from __future__ import annotations

from typing import Literal

import msgspec

from mlx_server.schemas.internal.generation import Media


class EmbeddingInput(msgspec.Struct, frozen=True):
    """A text or token ids (checked by the worker), with the pictures that are embedded together with it.

    `param` names it in a refusal.
    """

    content: str | tuple[int, ...]
    param: str
    media: tuple[Media, ...] = ()


PER_DOCUMENT = "max_tokens_per_doc"
"""Names a number that may be larger than what the model takes."""


class Truncation(msgspec.Struct, frozen=True):
    """A longer input keeps `tokens` tokens (None: as many as the model takes), special ones among them, on one side.

    `param` names the number in a refusal.
    """

    tokens: int | None = None
    keep: Literal["start", "end"] = "start"
    param: str = "truncate_prompt_tokens"


class EmbeddingRequest(msgspec.Struct, frozen=True, tag=True):
    """One ticket's work: a vector for each input, in order.

    `dimensions` cuts vectors off and normalises them again. Without a `truncation` an input that is too long is
    refused. `prompt_name` names one of the model's own prompts, `input_type` what the input is in the words of other
    APIs (`query`, `document`, ...); at most one of them and of `prompt`, a text to put before each input, is given.
    `tenant` is whose request it is.
    """

    inputs: tuple[EmbeddingInput, ...]
    dimensions: int | None = None
    truncation: Truncation | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    input_type: str | None = None
    tenant: str = ""

    @property
    def rows(self) -> int:
        """It takes one place, however many inputs it has: the worker shares its batches out fairly."""
        return 1


class Pair(msgspec.Struct, frozen=True):
    """Two texts whose relevance to each other is wanted. `…_param` names them in a refusal."""

    query: str
    document: str
    query_param: str
    document_param: str


class ScoreRequest(msgspec.Struct, frozen=True, tag=True):
    """One ticket's work: a score for each pair, in order. `instruction` is for rerankers that take one."""

    pairs: tuple[Pair, ...]
    truncation: Truncation | None = None
    instruction: str | None = None

    @property
    def rows(self) -> int:
        """It takes one place."""
        return 1
