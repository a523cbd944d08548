"""What the server does now, as `GET /v1/live` tells it about once a second. Times and rates are in seconds."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from mlx_server.schemas.impetus.models import DownloadState
from mlx_server.schemas.openai.stored.batches import Batch
from mlx_server.schemas.operations import JobProgress


class Percentiles(msgspec.Struct, frozen=True):
    """Of the last `count` times."""

    count: int
    p50: float
    p95: float
    p99: float


class LiveRequest(msgspec.Struct, frozen=True):
    """A request that waits, has its prompt read, or writes.

    `id` is its `X-Request-Id`, `key` what the configuration calls its API key. `position` is 1 for who is next;
    `eta_s` is when it may begin, null while nobody can tell. Counts are in tokens; `job` is how far a recording, speech
    or picture is.
    """

    id: str | None
    model: str
    key: str | None
    state: Literal["queued", "prefill", "running"]
    age_s: float
    position: int | None
    eta_s: float | None
    prompt_tokens: int | None
    processed_tokens: int | None
    tokens: int
    tokens_per_s: float | None
    job: JobProgress | None


class LoadProgress(msgspec.Struct, frozen=True):
    """How far a model's start is: `done` of `total` in bytes, both 0 where its phase can't tell."""

    phase: str
    done: int
    total: int


class LiveModel(msgspec.Struct, frozen=True):
    """A model. Counts are since the start, but percentiles and `cache_hit_rate` (the share of prompts' tokens that were
    known) are of the last minutes.

    `tokens_per_s` is of the last second, or the last five; null at first. `workers`: how many are in which state.
    `memory_bytes` is what its processes hold, `granted_bytes` what they may. `loading` is null unless it is loading.
    """

    name: str
    type: str
    state: str
    error: str | None
    workers: dict[str, int]
    restarts: int
    pids: list[int]
    waiting: int
    running: int
    rows_used: int
    rows_granted: int
    tokens: int
    tokens_per_s: float | None
    first_token_s: Percentiles | None
    gap_s: Percentiles | None
    cache_hit_rate: float | None
    refused: int
    memory_bytes: int
    granted_bytes: int | None
    loading: LoadProgress | None = None


class LivePoint(msgspec.Struct, frozen=True):
    """All models together, `age_s` before the event that tells of it.

    Rates are since the point before. Percentiles are those of the slowest model and `cache_hit_rate` is the
    highest, all of the last minutes; null where no model has any.
    """

    age_s: float
    tokens_per_s: float
    refused_per_s: float
    running: int
    waiting: int
    first_token_s: Percentiles | None
    gap_s: Percentiles | None
    cache_hit_rate: float | None


class LiveState(msgspec.Struct, frozen=True):
    """All of it. `at` is ISO 8601, in UTC; `window_s` is how far back percentiles reach.

    `history` is what was in the last five minutes, the oldest first, in a stream's first event and null in the others;
    `now` is what comes after it.

    `requests` are at most 200, the running ones first, then who waits in their order; `more_requests` are the others,
    and `waiting_requests` how many of all wait. A key that is not the operator's sees its own alone.
    `too_many_requests` counts answers with status 429.

    Only who asks for it (`with`) is told of `batches`, the last 20 of its key, of all `downloads`, and the operator of
    `logs`: the last 1,000 lines in the first event, in others what is new since the one before.
    """

    at: str
    window_s: float
    memory_limit_bytes: int | None
    too_many_requests: int
    history: list[LivePoint] | None
    now: LivePoint
    models: list[LiveModel]
    requests: list[LiveRequest]
    more_requests: int
    waiting_requests: int
    batches: list[Batch] | UnsetType = UNSET
    downloads: list[DownloadState] | UnsetType = UNSET
    logs: LogLines | UnsetType = UNSET


class CancelledRequests(msgspec.Struct, frozen=True):
    """How many requests with this id were ended."""

    id: str
    cancelled: int


class LogLine(msgspec.Struct, frozen=True):
    """A line of the server's log. `at` is ISO 8601, in UTC; `number` counts from 1."""

    number: int
    at: str
    level: str
    logger: str
    text: str


class LogLines(msgspec.Struct, frozen=True):
    """Lines, the oldest first; `last` is the number of the last that there is: it begins anew with the server.

    `began` is when that was, ISO 8601 in UTC: where it differs from the last answer's, the lines are another log's.
    """

    lines: list[LogLine]
    last: int
    began: str
