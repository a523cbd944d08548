"""`/v1/rerank` as Cohere and Jina have it, `/v1/score` as vLLM has it: what clients send, what they get."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlx_server.schemas.internal.embedding import PER_DOCUMENT, Pair, ScoreRequest, Truncation
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.openai.common import Count
from mlx_server.schemas.openai.embeddings import MAX_PROMPT_CHARS, PromptUsage
from mlx_server.schemas.openai.truncation import TruncationFields, truncation_of

MAX_PAIRS = 10_000
MAX_CHARACTERS = 1 << 24
"""Of all pairs together. A query counts with each of its documents: so it is read, and so it travels."""

# Parameters of other servers that are known and not served, with the values that change nothing (null never does).
HARMLESS: dict[str, tuple[Any, ...]] = {
    "rank_fields": (["text"],),
    "max_chunks_per_doc": (),
    "raw_scores": (False,),
    "use_activation": (True,),
    "activation": (True,),
    "mm_processor_kwargs": ({},),
    "priority": (0,),
}

Instruction = Annotated[str, Meta(max_length=MAX_PROMPT_CHARS)]
Texts = str | Annotated[list[str], Meta(max_length=MAX_PAIRS)]
Method = Literal["cross_encoder", "embedding_similarity"]


class Document(msgspec.Struct, frozen=True):
    """A text that is searched."""

    text: str


class RerankRequest(TruncationFields, frozen=True, kw_only=True):
    """The body of a request to sort documents. `top_n` best ones come back, all of them if it is 0 or left out."""

    query: str
    documents: Annotated[list[str | Document], Meta(max_length=MAX_PAIRS)]
    model: Annotated[str, Meta(max_length=256)] | None = None
    top_n: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: Count | None = None
    instruction: Instruction | None = None
    user: str | None = None

    def texts(self) -> list[str]:
        """The documents' texts."""
        return [given if isinstance(given, str) else given.text for given in self.documents]

    def to_work(self) -> ScoreRequest:
        """The inside type. Raises InvalidRequest."""
        if not self.documents:
            raise InvalidRequest("`documents` is an empty list: give at least one.", "documents")
        pairs = tuple(
            Pair(self.query, text, "query", f"documents[{i}]" + (".text" if isinstance(given, Document) else ""))
            for i, (given, text) in enumerate(zip(self.documents, self.texts(), strict=True))
        )
        return ScoreRequest(bounded(pairs, "documents"), self.cut(), self.instruction)

    def cut(self) -> Truncation | None:
        """What of a long document is left out. Raises InvalidRequest."""
        if self.max_tokens_per_doc is None:
            return self.truncation()
        if self.truncate_prompt_tokens is not None:
            raise InvalidRequest(
                "`max_tokens_per_doc` and `truncate_prompt_tokens` can't be given together.", "max_tokens_per_doc"
            )
        return truncation_of(self.max_tokens_per_doc, self.truncation_side, PER_DOCUMENT)


class Ranked(msgspec.Struct, frozen=True):
    """One document of the answer; `index` is its place in the request."""

    index: int
    relevance_score: float
    document: Document | msgspec.UnsetType = msgspec.UNSET


class RerankTokens(msgspec.Struct, frozen=True):
    """Token counts as Cohere's clients read them."""

    input_tokens: int
    output_tokens: int


class RerankMeta(msgspec.Struct, frozen=True):
    """What Cohere's clients read of a request's cost."""

    tokens: RerankTokens


class RerankAnswer(msgspec.Struct, frozen=True):
    """The documents, the most relevant first. `method` is how they were scored."""

    id: str
    model: str
    method: Method
    results: list[Ranked]
    usage: PromptUsage
    meta: RerankMeta


class ScoresRequest(TruncationFields, frozen=True, kw_only=True):
    """The body of a request for scores of pairs: the texts of one side, and those of the other under a name that
    belongs to it. One text meets each of the other side, or both sides have as many."""

    model: Annotated[str, Meta(max_length=256)] | None = None
    text_1: Texts | None = None
    text_2: Texts | None = None
    queries: Texts | None = None
    items: Texts | None = None
    documents: Texts | None = None
    data_1: Texts | None = None
    data_2: Texts | None = None
    instruction: Instruction | None = None
    user: str | None = None

    def to_work(self) -> ScoreRequest:
        """The inside type. Raises InvalidRequest."""
        one, other = self.sides()
        return ScoreRequest(to_pairs(self, one, other), self.truncation(), self.instruction)

    def sides(self) -> tuple[str, str]:
        """The names of the two fields that hold the texts. Raises InvalidRequest."""
        given = [name for pair in SIDES for name in pair if getattr(self, name) is not None]
        given = list(dict.fromkeys(given))
        if len(given) > 2:
            raise InvalidRequest(f"`{given[2]}` is one too many: {ALLOWED_SIDES}.", given[2])
        if len(given) < 2 or (given[0], given[1]) not in SIDES:
            raise InvalidRequest(f"Two lists of texts are needed: {ALLOWED_SIDES}.", given[0] if given else "text_1")
        return given[0], given[1]


SIDES = (("text_1", "text_2"), ("queries", "items"), ("queries", "documents"), ("data_1", "data_2"))
ALLOWED_SIDES = " or ".join(f"`{one}` with `{other}`" for one, other in SIDES)


def to_pairs(given: ScoresRequest, one: str, other: str) -> tuple[Pair, ...]:
    """The pairs of two fields. Raises InvalidRequest for lists that don't fit."""
    left, right = (named(getattr(given, name), name) for name in (one, other))
    if len(left) > 1 and len(left) != len(right):
        raise InvalidRequest(
            f"`{other}`: {len(left)} texts in `{one}` need as many here, got {len(right)}; a single text there meets"
            " each one here.",
            other,
        )
    if len(left) == 1:
        left *= len(right)
    pairs = zip(left, right, strict=True)
    return bounded(tuple(Pair(query, text, query_param, param) for (query, query_param), (text, param) in pairs), other)


def named(texts: str | list[str], name: str) -> list[tuple[str, str]]:
    """Texts, each with its name. Raises InvalidRequest for none."""
    if isinstance(texts, str):
        return [(texts, name)]
    if not texts:
        raise InvalidRequest(f"`{name}` is an empty list: give at least one text.", name)
    return [(text, f"{name}[{i}]") for i, text in enumerate(texts)]


def bounded(pairs: tuple[Pair, ...], param: str) -> tuple[Pair, ...]:
    """The same. Raises InvalidRequest if they are too much to read."""
    if sum(len(pair.query) + len(pair.document) for pair in pairs) > MAX_CHARACTERS:
        raise InvalidRequest(
            f"`{param}`: at most {MAX_CHARACTERS} characters are allowed in all; the query counts with each document.",
            param,
        )
    return pairs


class ScoreData(msgspec.Struct, frozen=True):
    """The score of one pair."""

    index: int
    object: Literal["score"]
    score: float


class ScoresAnswer(msgspec.Struct, frozen=True):
    """A score for each pair, in order. `method` is how they were scored."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    method: Method
    data: list[ScoreData]
    usage: PromptUsage


rerank_decoder = msgspec.json.Decoder(RerankRequest)
score_decoder = msgspec.json.Decoder(ScoresRequest)
