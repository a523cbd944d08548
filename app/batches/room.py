"""How many lines may be on their way: as many as fill the rows that interactive requests leave, and a few more."""

from __future__ import annotations

from collections.abc import Iterable

from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.deployment.model_state import ModelState
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.queue.dispatcher import Dispatcher

AHEAD = 4
"""Lines beyond those that have rows, whose prompts are prepared meanwhile."""


def most_at_once(rows: int, queue_size: int) -> int:
    """How many requests in all a queue may have for a line to join them: interactive ones always find a place."""
    return max(1, min(rows + min(AHEAD, queue_size // 4), rows + queue_size - 1))


def deployment_of(fleet: Fleet, model: str | None) -> Deployment | None:
    """The model that lines name, as far as it is known without looking for it."""
    if fleet.settings.sole is not None:
        return fleet.deployments[0].current
    return fleet.find(model) if model else None


def free_places(deployment: Deployment | None, ours: Iterable[str], on_their_way: int) -> int:
    """How many more lines may be sent to a model. `ours` are the ids of lines' requests, of which so many are on their
    way to it: one alone has a model loaded."""
    if deployment is None or deployment.state is not ModelState.LOADED:
        return 1 - on_their_way
    return (
        most_at_once(deployment.queue.may_run, deployment.queue.queue_size)
        - on_their_way
        - others(deployment.queue, ours)
    )


def others(queue: Dispatcher, ours: Iterable[str]) -> int:
    """Requests in a queue that are no lines of batches."""
    own = set(ours)
    return sum(ticket.request_id not in own for ticket in queue.tickets)
