"""What every answer says of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Head:
    """`id` without an API's prefix, `created` in seconds since the epoch, the model's name as the client wrote it,
    and a fingerprint of what computes: while it stays the same, the same seed gives the same answer.

    `performance`: a header of the request asks how fast the answer came. `request_id`: what the request is called in
    the log.
    """

    id: str
    created: int
    model: str
    fingerprint: str | None = None
    performance: bool = False
    request_id: str | None = None
