"""How many lines may be on their way: as many as a model has rows, and a few more. They make way by themselves."""

from __future__ import annotations

from datetime import time
from typing import TypeGuard

from mlx_server.app.config.hours import Hours
from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.deployment.model_state import ModelState

AHEAD = 4
"""Lines beyond those that have rows, whose prompts are prepared meanwhile."""

REST_S = 300.0
"""A model that was used in the last so many seconds does not make way for lines of another one."""

REST_IN_HOURS_S = 5.0
"""The same at the hours that the settings name for batches."""


def rest_s(hours: Hours | None, now: time) -> float | None:
    """For how long a model has not been used that makes way for lines at this time of the day; None: no line runs."""
    if hours is None:
        return REST_S
    return REST_IN_HOURS_S if hours.include(now) else None


def most_at_once(rows: int, queue_size: int) -> int:
    """How many lines a queue may have."""
    return rows + min(AHEAD, queue_size)


def name_of(deployment: Deployment | None, model: str | None) -> str:
    """What lines for a model are counted by: its deployment's name, as far as that is known, since it has several."""
    return deployment.name if deployment is not None else model or ""


def is_loaded(deployment: Deployment | None) -> TypeGuard[Deployment]:
    """Whether lines can be sent to it as they are."""
    return deployment is not None and deployment.state is ModelState.LOADED


def free_places(deployment: Deployment | None, on_their_way: int) -> int:
    """How many more lines may be sent to a model, with so many on their way to it: one alone has a model loaded."""
    if not is_loaded(deployment):
        return 1 - on_their_way
    return most_at_once(deployment.queue.may_run, deployment.queue.queue_size) - on_their_way
