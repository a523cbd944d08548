"""How many lines may be on their way: as many as a model has rows, and a few more. They make way by themselves."""

from __future__ import annotations

from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.deployment.model_state import ModelState
from mlx_server.app.fleet.fleet import Fleet

AHEAD = 4
"""Lines beyond those that have rows, whose prompts are prepared meanwhile."""


def most_at_once(rows: int, queue_size: int) -> int:
    """How many lines a queue may have."""
    return rows + min(AHEAD, queue_size)


def deployment_of(fleet: Fleet, model: str | None) -> Deployment | None:
    """The model that lines name, as far as it is known without looking for it."""
    if fleet.settings.sole is not None:
        return fleet.deployments[0].current
    return fleet.find(model) if model else None


def free_places(deployment: Deployment | None, on_their_way: int) -> int:
    """How many more lines may be sent to a model, with so many on their way to it: one alone has a model loaded."""
    if deployment is None or deployment.state is not ModelState.LOADED:
        return 1 - on_their_way
    return most_at_once(deployment.queue.may_run, deployment.queue.queue_size) - on_their_way
