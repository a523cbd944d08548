"""What the server does now: a look at queues and workers, for those who watch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.views.jobs import unit_of
from mlx_server.queue.ticket import Ticket, TicketState
from mlx_server.schemas.live import LiveModel, LivePoint, LiveRequest, LoadProgress, Percentiles
from mlx_server.schemas.operations import JobProgress

NameOf = Callable[[str], str | None]


def describe_model(
    deployment: Deployment, now: float, tokens_per_s: float | None, memory_bytes: int, granted_bytes: int | None
) -> LiveModel:
    """One model at `now`, seconds on the queue's clock."""
    queue, statistics = deployment.queue, deployment.queue.statistics
    prompts = statistics.recent_prompts.at(now)
    read = sum(tokens for _, tokens in prompts)
    loading = deployment.loading_now
    return LiveModel(
        name=deployment.name,
        type=deployment.type,
        state=deployment.public_state.value,
        error=deployment.error_message,
        workers=deployment.worker_states,
        restarts=deployment.restarts,
        pids=deployment.pids,
        waiting=queue.waiting,
        running=queue.running,
        rows_used=queue.rows_used,
        rows_granted=queue.credits,
        tokens=statistics.completion_tokens,
        tokens_per_s=None if tokens_per_s is None else round(tokens_per_s, 1),
        first_token_s=percentiles(statistics.recent_first_tokens_s.at(now)),
        gap_s=percentiles(statistics.recent_gaps_s.at(now)),
        cache_hit_rate=round(sum(known for known, _ in prompts) / read, 3) if read else None,
        refused=statistics.refused,
        memory_bytes=memory_bytes,
        granted_bytes=granted_bytes,
        loading=LoadProgress(loading.phase, loading.done, loading.total) if loading is not None else None,
    )


def sum_up(models: Sequence[LiveModel], tokens_per_s: float, refused_per_s: float) -> LivePoint:
    """All of them together, now. Percentiles of several can't be made one: those of the slowest stand for all."""
    known = [one.cache_hit_rate for one in models if one.cache_hit_rate is not None]
    return LivePoint(
        age_s=0.0,
        tokens_per_s=tokens_per_s,
        refused_per_s=refused_per_s,
        running=sum(one.running for one in models),
        waiting=sum(one.waiting for one in models),
        first_token_s=slowest(one.first_token_s for one in models),
        gap_s=slowest(one.gap_s for one in models),
        cache_hit_rate=max(known, default=None),
    )


def slowest(found: Iterable[Percentiles | None]) -> Percentiles | None:
    """That with the highest 95th percentile; None where there is none."""
    return max((one for one in found if one is not None), key=lambda one: one.p95, default=None)


def percentiles(values: Sequence[float]) -> Percentiles | None:
    """By nearest rank; None without any value."""
    if not values:
        return None
    ordered = sorted(values)
    ranks = (math.ceil(share * len(ordered)) - 1 for share in (0.5, 0.95, 0.99))
    return Percentiles(len(ordered), *(round(ordered[rank], 4) for rank in ranks))


class Place(NamedTuple):
    """Where a request is: its model, and its position where it waits, 1 for who is next."""

    deployment: Deployment
    ticket: Ticket
    position: int | None


def places_of(deployments: Iterable[Deployment], owner: str | None) -> list[Place]:
    """Requests of one owner, or with None of all: those that run, then of each model who waits."""
    running = [
        Place(one, ticket, None)
        for one in deployments
        for ticket in one.queue.tickets
        if ticket.state is TicketState.RUNNING
    ]
    waiting = [Place(one, ticket, position) for one in deployments for position, ticket in enumerate(one.queue.line, 1)]
    return [place for place in running + waiting if owner is None or place.ticket.account.owner == owner]


def describe_request(place: Place, now: float, name_of: NameOf) -> LiveRequest:
    """One request; nothing of what it says."""
    deployment, ticket, position = place
    unit, progress = unit_of(ticket.request), ticket.progress
    begun = ticket.first_text_at is not None or not ticket.writes
    return LiveRequest(
        id=ticket.request_id,
        model=deployment.name,
        key=name_of(ticket.account.owner),
        state="queued" if position else "running" if begun else "prefill",
        age_s=round(now - ticket.submitted_at, 1),
        position=position,
        eta_s=deployment.queue.eta_s(position) if position else None,
        prompt_tokens=ticket.prepared.prompt_tokens if ticket.prepared else None,
        processed_tokens=progress.done if progress and ticket.writes else None,
        tokens=ticket.tokens_written,
        tokens_per_s=None if ticket.tokens_per_s is None else round(ticket.tokens_per_s, 1),
        job=JobProgress(progress.done, progress.total, unit) if unit and progress and progress.total else None,
    )
