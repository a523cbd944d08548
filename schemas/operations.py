"""What operators read: health and the queue's state."""

from __future__ import annotations

from typing import Literal

import msgspec


class Health(msgspec.Struct, frozen=True):
    """Whether models are served.

    `model` and `worker`: the first one's name and state (`none` without any), `models`: the state of each, `workers`:
    how many worker processes are in which state.
    """

    status: Literal["healthy", "unhealthy"]
    version: str
    model: str | None
    worker: str
    workers: dict[str, int]
    models: dict[str, str]


class Live(msgspec.Struct, frozen=True):
    """The front end lives."""

    status: Literal["live"]


class Readiness(msgspec.Struct, frozen=True):
    """Whether work is taken; `worker` is the state of the first model, `none` without any."""

    status: Literal["ready", "not ready"]
    worker: str


JobUnit = Literal["seconds", "characters", "steps"]


class JobProgress(msgspec.Struct, frozen=True):
    """How far a request is that is counted in seconds of a recording, characters that are read aloud, or steps of
    pictures."""

    done: int
    total: int
    unit: JobUnit


class QueueStats(msgspec.Struct, frozen=True):
    """The reference's object, and beside it what operators ask next. Times are seconds, counts since the start.

    `workers`: how many are in which state. `jobs`: how far recordings, speech and pictures are that have begun.
    """

    running: bool
    queue_size: int
    max_queue_size: int
    active_requests: int
    max_concurrency: int
    running_requests: int
    waiting_requests: int
    rows_used: int
    rows_granted: int
    oldest_wait_s: float
    mean_wait_s: float | None
    max_wait_s: float | None
    mean_time_to_first_token_s: float | None
    served: int
    refused: int
    timed_out: int
    cancelled: int
    failed: int
    invalid: int
    replayed: int
    draft_tokens: int
    accepted_draft_tokens: int
    workers: dict[str, int]
    worker_restarts: int
    jobs: list[JobProgress]


class QueueReport(msgspec.Struct, frozen=True):
    """The queue's state now, and per model."""

    status: Literal["ok"]
    queue_stats: QueueStats
    models: dict[str, QueueStats]
