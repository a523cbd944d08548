"""`GET /v1/queue/stats`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.http.json_answer import json_answer
from mlx_server.app.http.services import services
from mlx_server.app.views.jobs import jobs_of
from mlx_server.schemas.operations import QueueReport, QueueStats


def describe(deployment: Deployment) -> QueueStats:
    """A queue's state now, and its workers'."""
    queue, statistics = deployment.queue, deployment.queue.statistics
    return QueueStats(
        running=not queue.closed,
        queue_size=queue.waiting,
        max_queue_size=queue.queue_size,
        active_requests=queue.live,
        max_concurrency=queue.may_run,
        running_requests=queue.running,
        waiting_requests=queue.waiting,
        rows_used=queue.rows_used,
        rows_granted=queue.credits,
        oldest_wait_s=round(queue.oldest_wait_s, 3),
        mean_wait_s=rounded(statistics.queue_s.mean),
        max_wait_s=rounded(statistics.queue_s.max),
        mean_time_to_first_token_s=rounded(statistics.first_token_s.mean),
        served=statistics.served,
        refused=statistics.refused,
        timed_out=statistics.timed_out,
        cancelled=statistics.cancelled,
        failed=statistics.failed,
        invalid=statistics.invalid,
        replayed=statistics.replayed,
        draft_tokens=statistics.drafted_tokens,
        accepted_draft_tokens=statistics.accepted_tokens,
        workers=deployment.worker_states,
        worker_restarts=deployment.restarts,
        jobs=jobs_of(queue),
    )


def rounded(seconds: float | None) -> float | None:
    """Milliseconds are enough."""
    return None if seconds is None else round(seconds, 3)


def total(parts: Sequence[QueueStats]) -> QueueStats:
    """All queues as one: sums, but the longest of the longest times, and means weighted by what was served."""
    if len(parts) == 1:
        return parts[0]
    sums: dict[str, Any] = {
        field.name: sum(getattr(part, field.name) for part in parts)
        for field in msgspec.structs.fields(QueueStats)
        if field.type is int
    }
    longest = [part.max_wait_s for part in parts if part.max_wait_s is not None]
    return QueueStats(
        **sums,
        jobs=[job for part in parts for job in part.jobs],
        workers=dict(sum((Counter(part.workers) for part in parts), Counter())),
        running=any(part.running for part in parts),
        oldest_wait_s=max((part.oldest_wait_s for part in parts), default=0.0),
        max_wait_s=max(longest, default=None),
        mean_wait_s=mean([(part.mean_wait_s, part.served) for part in parts]),
        mean_time_to_first_token_s=mean([(part.mean_time_to_first_token_s, part.served) for part in parts]),
    )


def mean(weighted: Sequence[tuple[float | None, int]]) -> float | None:
    """The mean of those values that there are."""
    weight = sum(count for value, count in weighted if value is not None)
    return rounded(sum(value * count for value, count in weighted if value is not None) / weight) if weight else None


async def queue_stats(request: Request) -> Response:
    """The queues' state now: in sum, and per model."""
    fleet = services(request).fleet
    stats = {one.name: describe(one) for one in fleet.deployments}
    return json_answer(QueueReport("ok", total(list(stats.values())), stats))
