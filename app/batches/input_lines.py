"""A batch's file, line by line: which requests there are, and what is wrong with which."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

import msgspec
from msgspec import UNSET, UnsetType

from mlx_server.app.batches.order import beginning_of
from mlx_server.app.batches.rows import PendingLine
from mlx_server.schemas.openai.stored.batches import BatchError, body_decoder, line_decoder
from mlx_server.schemas.parsing.parse import explain

MOST_LINES = 100_000
Read = PendingLine | BatchError


class InputLines:
    """Reads a file from its beginning. `endpoint` is what all requests are for, `most_bytes` what one line may have.

    Requests for several models are refused unless `mixed`.
    """

    def __init__(self, file: BinaryIO, endpoint: str, most_bytes: int, *, mixed: bool) -> None:
        self._file = file
        self._endpoint = endpoint
        self._most_bytes = most_bytes
        self._mixed = mixed
        self._model: str | UnsetType | None = UNSET
        """That of the first line that is a request."""
        self._lines = self._all()
        self.count = 0
        """Requests so far."""

    def take(self, count: int) -> list[Read]:
        """The next lines; none at the end."""
        return list(islice(self._lines, count))

    def _all(self) -> Iterator[Read]:
        at = 0
        number = 0
        while raw := self._file.readline(self._most_bytes + 1):
            number += 1
            if len(raw) > self._most_bytes:
                yield BatchError("line_too_long", f"A line may have {self._most_bytes} bytes.", number)
                return
            if raw.strip():
                self.count += 1
                if self.count > MOST_LINES:
                    yield BatchError("too_many_requests", f"A batch may have {MOST_LINES} requests.", number)
                    return
                yield self._read(raw, number, at)
            at += len(raw)
        if not self.count:
            yield BatchError("empty_file", "There are no requests in the file.")

    def _read(self, raw: bytes, number: int, at: int) -> Read:
        try:
            return self._request(raw, number, at)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return BatchError("invalid_json_line", f"This line is no JSON object: {error}", number)

    def _request(self, raw: bytes, number: int, at: int) -> Read:
        try:
            line = line_decoder.decode(raw)
        except msgspec.ValidationError as error:
            message, param = explain(error, line_decoder.type)
            return BatchError("invalid_request", message, number, param)
        if line.url != self._endpoint:
            message = f"`url`: {line.url[:64]!r} is not the endpoint of the batch, {self._endpoint!r}."
            return BatchError("mismatched_endpoint", message, number, "url")
        try:
            body = body_decoder.decode(line.body)
        except msgspec.ValidationError as error:
            message, param = explain(error, body_decoder.type)
            return BatchError("invalid_request", f"`body`: {message}", number, f"body.{param}" if param else "body")
        for name in ("stream", "background"):
            if getattr(body, name):
                message = f"`body.{name}`: a batch's requests are answered in one piece; leave it out."
                return BatchError("invalid_request", message, number, f"body.{name}")
        if self._model is UNSET:
            self._model = body.model
        elif body.model != self._model and not self._mixed:
            message = f"`body.model`: all requests of a batch are for one model, and the first is for {self._model!r}."
            return BatchError("mismatched_model", message, number, "body.model")
        beginning = beginning_of(body.prompt_bytes)
        return PendingLine(number, at, len(raw), line.custom_id, body.model, beginning)
