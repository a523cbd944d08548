"""A batch as its row in the database has it, and the states that it goes through."""

from __future__ import annotations

import msgspec

from mlx_server.schemas.openai.stored.batches import Status

UNFINISHED: tuple[Status, ...] = ("validating", "in_progress", "finalizing", "cancelling")
MAY_BE_CANCELLED: tuple[Status, ...] = ("validating", "in_progress")


class StoredBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds since the epoch. `anthropic`: it is one of Anthropic's API, whose input is no file of anybody's.

    `unknown` are the names in it that were no models' when its file was looked through, as JSON.
    `output_bytes` and `error_bytes` are how much of its files is committed: what lies behind that is what a kill left.
    `output_lifetime` are the seconds that its output stays, None for ever.
    """

    number: int
    id: str
    owner: str
    anthropic: bool
    endpoint: str
    input_file: str
    window: str
    metadata: bytes
    output_lifetime: int | None
    status: Status
    created: int
    expires: int
    in_progress: int | None = None
    finalizing: int | None = None
    completed: int | None = None
    failed: int | None = None
    expired: int | None = None
    cancelling: int | None = None
    cancelled: int | None = None
    model: str | None = None
    errors: bytes = b"[]"
    total: int = 0
    done: int = 0
    wrong: int = 0
    output_bytes: int = 0
    error_bytes: int = 0
    output_file: str | None = None
    error_file: str | None = None
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    unknown: bytes = b"[]"


class PendingLine(msgspec.Struct, frozen=True):
    """A line that is still to be done: its number from 1, its place in the input file, and where it stands in the order
    of those for its model (`beginning` first, then the larger ones, then the earlier ones)."""

    line: int
    at: int
    size: int
    custom_id: str
    model: str | None
    beginning: bytes


class Outcome(msgspec.Struct, frozen=True):
    """What became of a line: what is written of it, whether it went well, and the tokens that it cost. One that is not
    `counted` neither did nor failed."""

    line: int
    written: bytes
    ok: bool
    counted: bool = True
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
