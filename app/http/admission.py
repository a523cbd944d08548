"""The one way from a request into a queue."""

from __future__ import annotations

from msgspec.structs import replace
from starlette.requests import Request

from mlx_server.app.http.body import BODY_HASH
from mlx_server.app.http.keys import credential_of, priority_of
from mlx_server.queue.account import Priority
from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.reservations import Returning
from mlx_server.queue.ticket import Ticket
from mlx_server.schemas.internal.generation import GenerationRequest
from mlx_server.schemas.internal.work import Work


def check_room(request: Request, queue: Dispatcher) -> None:
    """Refuse a request that would find no place now. Raises QueueFull or QueueClosed, and what `priority_of` raises."""
    priority = priority_of(request)
    queue.check_capacity(credential_of(request).account, priority, returning(request, priority))


def enqueue(request: Request, queue: Dispatcher, work: Work, *, whole: bool) -> Ticket:
    """Queue work at its client's cost and priority; `whole`: the answer is wanted in one piece.

    Raises QueueFull, QueueClosed or LimitReached, and InvalidRequest or HTTPException for a priority that can't be had.
    """
    priority = priority_of(request)
    if isinstance(work, GenerationRequest) and priority is Priority.IDLE:
        work = replace(work, yields=True)
    return queue.submit(
        work,
        whole=whole,
        account=credential_of(request).account,
        priority=priority,
        request_id=request.scope.get("request_id"),
        who=returning(request, priority),
    )


def returning(request: Request, priority: Priority) -> Returning | None:
    """By what a queue knows a request that it refused before: its key's owner and its body; None for an idle one, which
    no place is kept for, and without a body that was read at once."""
    body = None if priority is Priority.IDLE else request.scope.get(BODY_HASH)
    return None if body is None else (credential_of(request).account.owner, body)
