"""What a route takes and answers, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlx_server.schemas.internal.errors import ErrorBody

READS = (500,)
LOOKS_UP = (404, 500)
ASKS = (400, 404, 500)
GENERATES = (400, 403, 409, 413, 429, 500, 502, 503, 504)
"""Statuses of errors by what a route does. A refused key's 401 goes without saying."""


@dataclass(frozen=True)
class Doc:
    """What a route takes and answers.

    `form` is a msgspec type of a form's fields, `files` are those of its parts that are files, and what they are;
    `optional_files` may be left out. `request` and `answer` are msgspec types of JSON, `event` that of what each
    server-sent event of a stream holds. An answer that is no JSON has a `media` type instead. `also` are answers with
    another status than 200. `errors` are the statuses whose answer is an `error`.
    """

    summary: str
    answer: Any = None
    request: Any = None
    event: Any = None
    errors: tuple[int, ...] = READS
    marks: tuple[str, ...] = ()
    """Data of events that is no JSON."""
    error: Any = ErrorBody
    media: str = "application/json"
    also: Mapping[int, Any] = field(default_factory=dict)
    path: Mapping[str, str] = field(default_factory=dict)
    """What the parameters in the path mean."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Parameters in the query, and what they do."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that a request may have, and what they do."""
    form: Any = None
    files: Mapping[str, str] = field(default_factory=dict)
    optional_files: Mapping[str, str] = field(default_factory=dict)
    tells: tuple[str, ...] = ()
    """Headers that only some answers with status 200 have."""
