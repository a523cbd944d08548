"""`/v1/rerank` and `/v1/score`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from mlx_server.app.encoders.head import Head
from mlx_server.schemas.internal.messages import Finished, Score, Vector
from mlx_server.schemas.openai.embeddings import PromptUsage
from mlx_server.schemas.scores import (
    Document,
    Method,
    Ranked,
    RerankAnswer,
    RerankMeta,
    RerankRequest,
    RerankTokens,
    ScoreData,
    ScoresAnswer,
)

HowScored = Callable[[], Method]
"""Known once a model has scored something."""


class RerankEncoder:
    """Documents, the most relevant first; of equals, the first first."""

    def __init__(self, head: Head, given: RerankRequest, method: HowScored) -> None:
        self._head = head
        self._texts = given.texts() if given.return_documents else None
        self._top_n = given.top_n or len(given.documents)
        self._method = method

    def pieces(self, results: list[Vector | Score], finished: Finished) -> Iterator[bytes]:
        """The answer in one piece."""
        best = sorted(scores_of(results), key=lambda score: score.score, reverse=True)[: self._top_n]
        tokens = finished.prompt_tokens
        answer = RerankAnswer(
            f"rerank-{self._head.id}",
            self._head.model,
            self._method(),
            [Ranked(score.index, score.score, self._document(score.index)) for score in best],
            PromptUsage(tokens, tokens),
            RerankMeta(RerankTokens(tokens, 0)),
        )
        yield msgspec.json.encode(answer)

    def _document(self, index: int) -> Document | msgspec.UnsetType:
        return Document(self._texts[index]) if self._texts is not None else msgspec.UNSET


class ScoresEncoder:
    """Scores in the order of the pairs."""

    def __init__(self, head: Head, method: HowScored) -> None:
        self._head = head
        self._method = method

    def pieces(self, results: list[Vector | Score], finished: Finished) -> Iterator[bytes]:
        """The answer in one piece."""
        answer = ScoresAnswer(
            f"score-{self._head.id}",
            "list",
            self._head.created,
            self._head.model,
            self._method(),
            [ScoreData(score.index, "score", score.score) for score in scores_of(results)],
            PromptUsage(finished.prompt_tokens, finished.prompt_tokens),
        )
        yield msgspec.json.encode(answer)


def scores_of(results: list[Vector | Score]) -> list[Score]:
    """What a request for scores gets."""
    return [result for result in results if isinstance(result, Score)]
