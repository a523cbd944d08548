"""`GET /v1/queue/stats`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.deployment import Deployment
from mlx_server.app.json_answer import json_answer
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
    )


def rounded(seconds: float | None) -> float | None:
    """Milliseconds are enough."""
    return None if seconds is None else round(seconds, 3)


async def queue_stats(request: Request) -> Response:
    """The queue's state now, and per model."""
    deployment: Deployment = request.app.state.deployment
    stats = describe(deployment)
    return json_answer(QueueReport("ok", stats, {deployment.name: stats}))
