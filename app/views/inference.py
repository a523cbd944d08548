"""What the queues did since they were last looked at."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime

from mlx_server.app.views.jobs import jobs_of
from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.statistics import Statistics
from mlx_server.schemas.impetus.live import InferenceStats, ModelInference


def finished(statistics: Statistics) -> int:
    """How many requests have ended, however they did."""
    return sum(
        (
            statistics.served,
            statistics.failed,
            statistics.invalid,
            statistics.timed_out,
            statistics.cancelled,
            statistics.refused,
        )
    )


class InferenceMeter:
    """Keeps the last look at the queues' counters; the first one alone says nothing of speed."""

    def __init__(self) -> None:
        self._at = 0.0
        self._tokens: dict[str, int] = {}

    def read(self, queues: Mapping[str, Dispatcher]) -> InferenceStats:
        """The queues now, by the names of their models."""
        now = time.monotonic()
        passed, before = now - self._at, self._tokens
        self._at, self._tokens = now, {name: queue.statistics.completion_tokens for name, queue in queues.items()}
        models = {
            name: describe(queue, (tokens - before.get(name, tokens)) / passed)
            for (name, queue), tokens in zip(queues.items(), self._tokens.values(), strict=True)
        }
        return InferenceStats(
            timestamp=datetime.now(UTC).isoformat(),
            active_requests=sum(model.active_requests for model in models.values()),
            waiting_requests=sum(model.waiting_requests for model in models.values()),
            requests_total=sum(model.requests_total for model in models.values()),
            tokens_generated_total=sum(model.tokens_generated_total for model in models.values()),
            tokens_per_second=round(sum(model.tokens_per_second for model in models.values()), 1),
            models=models,
        )


def describe(queue: Dispatcher, tokens_per_second: float) -> ModelInference:
    """One queue now."""
    first_token_s = queue.statistics.first_token_s.mean
    return ModelInference(
        active_requests=queue.live,
        waiting_requests=queue.waiting,
        requests_total=finished(queue.statistics) + queue.live,
        tokens_generated_total=queue.statistics.completion_tokens,
        tokens_per_second=round(tokens_per_second, 1),
        mean_time_to_first_token_seconds=None if first_token_s is None else round(first_token_s, 3),
        jobs=jobs_of(queue),
    )
