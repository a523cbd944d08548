"""Shows a person the progress of a model's start."""

from __future__ import annotations

from typing import Protocol

from mlx_server.schemas.internal.messages import Loading, ModelFacts


class Observer(Protocol):
    """All calls come on the event loop; OSError is no reason to stop."""

    def loading(self, loading: Loading) -> None:
        """A worker's start goes on."""

    def ready(self, facts: ModelFacts) -> None:
        """The model answers."""

    def ended(self) -> None:
        """The start has ended, well or not."""
