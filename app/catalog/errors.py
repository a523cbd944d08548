"""What can go wrong before a request reaches a model."""

from __future__ import annotations

from pathlib import Path

from mlx_server.app.catalog.memory_verdict import fits_message


class FleetError(Exception):
    """Raised when a model can't be had; the message is for the client."""


class ModelNotFound(FleetError):  # noqa: N818 - named for the fact
    """Raised when nobody knows a model of this name."""

    def __init__(self, name: str, how: str = "") -> None:
        super().__init__(f"Model {name[:200]!r} not found{'. ' + how if how else ''}")
        self.name = name


class ModelNotLoaded(FleetError):  # noqa: N818 - named for the fact
    """Raised when a model would have to be loaded first, and requests may not do that."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Model '{name}' is not loaded. Load it first with POST /v1/models/{name}/load")


class InsufficientMemory(FleetError):  # noqa: N818 - named for the fact
    """Raised when a model can never fit; both are bytes."""

    def __init__(self, available: int, required: int) -> None:
        super().__init__(fits_message(available, required))
        self.available = available
        self.required = required


class ModelLimitReached(FleetError):  # noqa: N818 - named for the fact
    """Raised when as many models as are allowed are pinned, so that none can go for another."""

    def __init__(self, max_models: int) -> None:
        super().__init__(f"All {max_models} models that may be loaded at a time (--max-models) are pinned")


class ModelBusy(FleetError):  # noqa: N818 - named for the fact
    """Raised when a model can't be changed now."""


class ModelConfigured(FleetError):  # noqa: N818 - named for the fact
    """Raised when a model is to be deleted that the server was told to serve: the next request would bring it back."""

    def __init__(self, name: str, config: Path | None) -> None:
        where = "the command line" if config is None else f"the command line or {config}, and send SIGHUP"
        super().__init__(
            f"Model {name!r} is configured and can't be deleted while it is. POST /v1/models/{name}/unload frees its"
            f" memory; to be rid of it, take it out of {where}."
        )


class LoadFailed(FleetError):  # noqa: N818 - named for the fact
    """Raised when a model could not be loaded; the message says why."""


class NotServable(FleetError):  # noqa: N818 - named for the fact
    """Raised when a model can't be served, or is no model; the message says why."""
