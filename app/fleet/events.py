"""What is told of models while they come and go."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mlx_server.app.deployment.model_state import ModelState
from mlx_server.schemas.internal.messages import Loading

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelEvent:
    """A model has moved from one state to another, or (both are the same) its load goes on."""

    model: str
    before: ModelState
    state: ModelState
    error_message: str | None = None
    loading: Loading | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


Watcher = Callable[[ModelEvent], None]


class Watchers:
    """All who want to know."""

    def __init__(self) -> None:
        self._watchers: list[Watcher] = []

    def add(self, watcher: Watcher) -> Callable[[], None]:
        """Tell this one too, on the event loop, until the function that is returned is called."""
        self._watchers.append(watcher)

        def remove() -> None:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

        return remove

    def notify(self, event: ModelEvent) -> None:
        """Tell everybody."""
        for watcher in list(self._watchers):
            watcher(event)
