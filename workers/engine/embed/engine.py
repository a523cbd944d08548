"""Computes the inputs of many requests together: each step is one pass of the model over a batch of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Sequence as Several

import numpy as np

from mlx_server.workers.engine.embed.fair_batch import next_batch
from mlx_server.workers.engine.embed.inputs.job import EmbeddingJob, Item, Rows
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.engine.sequence import Broken, Computed, Key, Produced, Sequence
from mlx_server.workers.log_lines import about

log = logging.getLogger(__name__)

Compute = Callable[[Several[Item]], Rows]
"""One pass of the model: a row for each input, [B, D], independent of the rest of the batch."""

CPU_TOKENS = 384
"""Here a CPU is as fast as it gets, and what a layer makes still lies in its caches: more in one pass gains nothing,
and whoever comes meanwhile waits for it."""

Batch = dict[Key, list[int]]
"""The numbers of each request's inputs that are computed together."""


def batch_budget(tokens: int) -> int:
    """The tokens of one pass that suit the machine, at most `tokens`."""
    return min(tokens, CPU_TOKENS) if platform.on_cpu() else tokens


class EmbeddingEngine:
    """Requests take turns, and every step serves as many of them as fit. Engine thread only.

    `batch_tokens` bounds a batch's rows times its longest input; an input that is longer is computed alone.
    """

    def __init__(self, compute: Compute, batch_tokens: int) -> None:
        self._compute = compute
        self._batch_tokens = batch_tokens
        self._waiting: dict[Key, EmbeddingJob] = {}

    @property
    def busy(self) -> bool:
        """Whether any input is still to be computed."""
        return bool(self._waiting)

    def takes(self, sequence: Sequence) -> bool:
        """It is a request for embeddings."""
        return isinstance(sequence, EmbeddingJob)

    def add(self, sequence: Sequence) -> None:
        """Take in a request; the next step computes some of its inputs."""
        assert isinstance(sequence, EmbeddingJob)
        self._waiting[sequence.key] = sequence

    def remove(self, key: Key) -> None:
        """Drop a request, however many of its inputs are done; unknown keys are ignored."""
        self._waiting.pop(key, None)

    def close(self) -> None:
        """Release all requests."""
        self._waiting.clear()

    def step(self) -> list[Produced]:
        """One pass. If it raises, each request's inputs go through alone, so that only the guilty one ends."""
        batch = self._next()
        try:
            rows = self._run(batch)
        except Exception as error:  # noqa: BLE001 - whatever a model raises ends the guilty request only
            if len(batch) == 1:
                return [self._break(key, error) for key in batch]
            what = "a batch could not be computed: %s; its requests are tried one by one"
            log.warning(what, type(error).__name__, extra=about(batch))
            return [self._alone(key, numbers) for key, numbers in batch.items()]
        return [self._took(key, numbers, rows[key]) for key, numbers in batch.items()]

    def _next(self) -> Batch:
        line = list(self._waiting.values())
        lengths = [[len(one.items[number].ids) for number in one.todo] for one in line]
        batch: Batch = {}
        for place, at in next_batch(lengths, self._batch_tokens):
            batch.setdefault(line[place].key, []).append(line[place].todo[at])
        return batch

    def _run(self, batch: Batch) -> dict[Key, Rows]:
        """Each request's rows. The longest inputs come first, which is the order that pads least on the way."""
        entries = [(key, number) for key, numbers in batch.items() for number in numbers]
        rows = self._compute([self._waiting[key].items[number] for key, number in entries])
        ends = np.cumsum([len(numbers) for numbers in batch.values()])
        return dict(zip(batch, np.split(rows, ends[:-1]), strict=True))

    def _alone(self, key: Key, numbers: list[int]) -> Produced:
        try:
            return self._took(key, numbers, self._run({key: numbers})[key])
        except Exception as error:  # noqa: BLE001 - this is the guilty one
            return self._break(key, error)

    def _took(self, key: Key, numbers: list[int], rows: Rows) -> Produced:
        """What these rows come to; a request with more to do goes to the end of the line."""
        if not np.isfinite(rows).all():
            return self._break(key, ArithmeticError("the model computed something that is not a number"))
        request = self._waiting.pop(key)
        results = [result for n, row in zip(numbers, rows, strict=True) for result in request.outcome.results(n, row)]
        request.took(numbers)
        if request.todo:
            self._waiting[key] = request
        return Computed(key, tuple(results), None if request.todo else "stop")

    def _break(self, key: Key, error: Exception) -> Broken:
        self.remove(key)
        return Broken(key, f"{type(error).__name__}: {error}")
