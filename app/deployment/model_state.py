"""The states of a model, and the moves between them."""

from __future__ import annotations

from enum import Enum


class ModelState(Enum):
    """Where a model is in its life. Its queue takes requests in all of them."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    LOADED = "loaded"
    RESTARTING = "restarting"
    UNLOADING = "unloading"
    FAILED = "failed"


MOVES: dict[ModelState, frozenset[ModelState]] = {
    ModelState.UNLOADED: frozenset({ModelState.LOADING, ModelState.FAILED}),
    ModelState.LOADING: frozenset({ModelState.LOADED, ModelState.FAILED, ModelState.UNLOADING}),
    ModelState.LOADED: frozenset({ModelState.RESTARTING, ModelState.FAILED, ModelState.UNLOADING}),
    ModelState.RESTARTING: frozenset({ModelState.LOADED, ModelState.FAILED, ModelState.UNLOADING}),
    ModelState.UNLOADING: frozenset({ModelState.UNLOADED}),
    ModelState.FAILED: frozenset({ModelState.LOADING, ModelState.FAILED, ModelState.UNLOADED}),
}
"""From each state to those that may follow it."""

HAS_WORKERS = frozenset({ModelState.LOADING, ModelState.LOADED, ModelState.RESTARTING, ModelState.UNLOADING})
"""States in which worker processes hold memory."""


class IllegalMove(Exception):  # noqa: N818 - named for the fact
    """Raised when a state does not follow another."""

    def __init__(self, before: ModelState, after: ModelState) -> None:
        super().__init__(f"a model that is {before.value} can't become {after.value}")


def move(before: ModelState, after: ModelState) -> ModelState:
    """The state after it. Raises IllegalMove."""
    if after not in MOVES[before]:
        raise IllegalMove(before, after)
    return after
