"""`GET /v1/live`, the end of a request by its id, and the log's last lines."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.http.json_answer import json_answer
from mlx_server.app.http.responder import WatchedResponse
from mlx_server.app.http.services import services
from mlx_server.app.middleware.operator import ensure_operator, operator_only, viewer_of
from mlx_server.app.routes.query import number, query_of
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.live import CancelledRequests

PARTS = ("batches", "downloads", "logs")
"""What the stream tells only those who ask for it; the log only the operator."""

MOST_NUMBER = 10**10
CANCELLED = "The request was cancelled at /v1/requests."


async def live(request: Request) -> WatchedResponse:
    """What the server does now, as a stream."""
    parts = parts_of(query_of(request, ("with",)).get("with"))
    if "logs" in parts:
        ensure_operator(request)
    return services(request).feed.listen(request, viewer_of(request), parts)


def parts_of(given: str | None) -> set[str]:
    """The parts that are asked for, which commas separate. Raises InvalidRequest."""
    parts = set() if given is None else set(given.split(","))
    if unknown := sorted(parts.difference(PARTS)):
        message = f"`with`: {', '.join(PARTS)} are allowed, separated by commas, got {unknown[0][:64]!r}."
        raise InvalidRequest(message, "with")
    return parts


async def cancel(request: Request) -> Response:
    """End all requests with an id, of those that who asks may end; their clients are told."""
    request_id, owner = request.path_params["id"], viewer_of(request)
    found = [
        (deployment.queue, ticket)
        for deployment in services(request).fleet.deployments
        for ticket in deployment.queue.tickets
        if ticket.request_id == request_id and (owner is None or ticket.account.owner == owner)
    ]
    if not found:
        raise HTTPException(404, "No request with this id waits or runs, or it is another key's.")
    for queue, ticket in found:
        queue.give_up(ticket, CANCELLED)
    return json_answer(CancelledRequests(request_id, len(found)))


@operator_only
async def logs(request: Request) -> Response:
    """The last lines of the log, or those after the one with a number."""
    after = number(query_of(request, ("after",)).get("after", "0"), "after", 0, MOST_NUMBER)
    return json_answer(services(request).recent_logs.after(after))
