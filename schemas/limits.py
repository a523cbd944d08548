"""`/v1/system/limits`: what the server allows, and whom. `…_s` are seconds; null means that there is no limit."""

from __future__ import annotations

import msgspec


class KeyView(msgspec.Struct, frozen=True):
    """A configured API key, never its secret. `name` is null for one of `--api-key`; `own`: the request came with it.

    `max_rows` are sequences at a time, of each model.
    """

    name: str | None
    own: bool
    operator: bool
    max_priority: str
    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_rows: int | None


class ServerLimits(msgspec.Struct, frozen=True):
    """What the server is started with; models may have limits of their own. `idle_timeout_s`: 0 is for ever.

    `keys`: all of them for the operator, else that of the request; none where no key is configured.
    """

    max_models: int | None
    idle_timeout_s: float
    auto_load: bool
    auto_download: bool
    queue_size: int
    queue_timeout_s: float
    request_timeout_s: float | None
    default_max_tokens: int | None
    max_body_bytes: int
    max_upload_bytes: int
    rate_limit: str | None
    cors_origins: list[str]
    keys: list[KeyView]
