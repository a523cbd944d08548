"""Why the queue takes no request."""

from __future__ import annotations

from mlx_server.schemas.internal.messages import FailureKind


class QueueFull(Exception):  # noqa: N818 - named for the fact
    """Raised when as many requests live as may; `retry_after_s` is when a place should be free, in whole seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("Too many requests. Service is at capacity.")
        self.retry_after_s = retry_after_s


class QueueClosed(Exception):  # noqa: N818 - named for the fact
    """Raised when no request is taken any more: the server is stopping, or its worker was given up."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class LimitReached(Exception):  # noqa: N818 - named for the fact
    """Raised when a key has used what it may in a minute; `retry_after_s` is when one more fits, in whole seconds."""

    def __init__(self, what: str, per_minute: int, retry_after_s: int) -> None:
        limit = f"{per_minute} {what} a minute"
        super().__init__(f"The limit of this key ({limit}) is reached: come again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s
