"""A handler that computes, in the test's own process: requests go in, vectors and scores come out."""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from support.tiny.sight import shown

from mlx_server.schemas.internal.embedding import EmbeddingInput, EmbeddingRequest, Pair, ScoreRequest
from mlx_server.schemas.internal.messages import Finished, Load, ModelFacts, Score, Vector
from mlx_server.workers.engine.engine import Engine
from mlx_server.workers.engine.sequence import Broken, Computed, Sequence
from mlx_server.workers.handlers import make_handler


@dataclass
class Told:
    """What one request's client was told, in order."""

    results: list[Vector | Score] = field(default_factory=list)
    finished: Finished | None = None
    broken: str | None = None

    @property
    def vectors(self) -> npt.NDArray[np.float32]:
        """One row for each input, in the inputs' order."""
        by_index = {result.index: np.frombuffer(result.values, "<f4") for result in self.results}
        assert sorted(by_index) == list(range(len(self.results)))
        return np.stack([by_index[index] for index in range(len(by_index))])

    @property
    def scores(self) -> list[float]:
        """One for each pair, in the pairs' order."""
        by_index = {result.index: result.score for result in self.results}
        assert sorted(by_index) == list(range(len(self.results)))
        return [by_index[index] for index in range(len(by_index))]


def results_of(engine: Engine, job: Sequence) -> tuple[list[Any], Computed]:
    """All results of one job that an engine does alone, and what it said last."""
    engine.add(job)
    results: list[Any] = []
    last = None
    while engine.busy:
        [last] = engine.step()
        assert isinstance(last, Computed), last
        results += last.results
    assert last is not None
    return results, last


class Computing:
    """A loaded model."""

    def __init__(self, folder: Path, model_type: str = "embeddings", **load: Any) -> None:
        self.folder = folder
        self.handler = make_handler(model_type)
        self.facts: ModelFacts = self.handler.load(
            Load(str(folder), model_type, 8, 512, "/dev/null/nowhere", **load), print
        )

    def prepare(self, ticket: int, request: Any) -> list[Any]:
        """The sequences of a request, once its files are decoded."""
        return self.handler.prepare(ticket, shown(request, self.handler.decode))

    def ask(self, *requests: EmbeddingRequest | ScoreRequest) -> list[Told]:
        """What all the requests' clients are told; they are computed together."""
        tolds, answers = {}, {}
        for ticket, request in enumerate(requests):
            [sequence] = self.prepare(ticket, request)
            tolds[sequence.key], answers[sequence.key] = Told(), self.handler.answer_stream(sequence)
            self.handler.engine.add(sequence)
        while self.handler.engine.busy:
            for item in self.handler.engine.step():
                told = tolds[item.key]
                assert told.finished is None
                assert told.broken is None
                match item:
                    case Computed():
                        told.results += answers[item.key].add(item)
                        told.finished = answers[item.key].finished() if item.finish else None
                    case Broken():
                        told.broken = item.message
        return list(tolds.values())

    def vectors(self, *inputs: str | tuple[int, ...], **how: Any) -> npt.NDArray[np.float32]:
        """The inputs' vectors, asked for together."""
        return self.ask(embedding(*inputs, **how))[0].vectors

    def scores(self, *pairs: tuple[str, str], **how: Any) -> list[float]:
        """The pairs' scores, asked for together."""
        return self.ask(scoring(*pairs, **how))[0].scores

    def ids(self, text: str) -> list[int]:
        """The text's tokens, special ones included."""
        [sequence] = self.handler.prepare(0, embedding(text))
        return list(sequence.items[0].ids)


def embedding(*inputs: str | tuple[int, ...], **how: Any) -> EmbeddingRequest:
    """A request for vectors."""
    return EmbeddingRequest(tuple(EmbeddingInput(given, f"input[{n}]") for n, given in enumerate(inputs)), **how)


def scoring(*pairs: tuple[str, str], **how: Any) -> ScoreRequest:
    """A request for scores."""
    made = (Pair(query, document, "query", f"documents[{n}]") for n, (query, document) in enumerate(pairs))
    return ScoreRequest(tuple(made), **how)


def cosines(one: npt.ArrayLike, other: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Row by row."""
    a, b = (np.atleast_2d(np.asarray(side, dtype=np.float64)) for side in (one, other))
    return np.sum(a * b, axis=-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


def close(one: npt.ArrayLike, other: npt.ArrayLike, tolerance: float = 1e-5) -> bool:
    """All numbers are nearly alike."""
    return bool(np.allclose(one, other, rtol=0, atol=tolerance))


SENTENCES: Several[str] = (
    "A man is eating food.",
    "the cat sat on the mat and looked at the dog, which was asleep in front of the fire",
    "Paris is the capital of France.",
    "Hi",
    "Les chats dorment beaucoup.",
)
