"""What every answer says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Computing(Protocol):
    """What computes answers."""

    fingerprint: str | None


@dataclass(frozen=True)
class Head:
    """`id` without an API's prefix, `created` in seconds since the epoch, the model's name as the client wrote it,
    and what computes the answer, which may still have to be loaded.

    `performance`: a header of the request asks how fast the answer came. `request_id`: what the request is called in
    the log.
    """

    id: str
    created: int
    model: str
    computing: Computing | None = None
    performance: bool = False
    request_id: str | None = None

    @property
    def fingerprint(self) -> str | None:
        """While it stays the same, the same seed gives the same answer; None before anything has been loaded."""
        return None if self.computing is None else self.computing.fingerprint
