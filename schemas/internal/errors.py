"""The one shape of an error, and the exception that carries it through the front end."""

from __future__ import annotations

from typing import Literal

import msgspec

THREAD_UNSUPPORTED: Literal["thread_unsupported_request"] = "thread_unsupported_request"
"""The code by which Anthropic's SDK knows that it has to send the whole conversation."""


class ErrorObject(msgspec.Struct, frozen=True):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """OpenAI's object, and beside it the plain `detail` string that other clients read."""

    error: ErrorObject
    detail: str


class ThreadUnsupported(msgspec.Struct, frozen=True):
    """What Anthropic's SDK reads of that refusal: the fields that can't be had."""

    error_code: Literal["thread_unsupported_request"]
    unsupported: list[str]


class AnthropicErrorObject(ErrorObject, frozen=True):
    """OpenAI's object, with what Anthropic's clients act upon."""

    details: ThreadUnsupported | msgspec.UnsetType = msgspec.UNSET


class AnthropicErrorBody(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    """The same for Anthropic's clients."""

    error: AnthropicErrorObject
    detail: str
    request_id: str | None


class ApiErrorBody(msgspec.Struct, frozen=True):
    """The same under `/api/`: `details` says what is wrong with which field, `timestamp` is ISO 8601, in UTC."""

    error: ErrorObject
    detail: str
    details: list[str]
    timestamp: str


class InvalidRequest(Exception):  # noqa: N818 - named for what it says to the client
    """Raised when a client's request can't be accepted; `param` names the field, the message what is allowed."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        message = shortened(message, 1000)
        super().__init__(message)
        self.message = message
        self.param = None if param is None else shortened(param, 200)
        self.code = code


def shortened(text: str, most: int) -> str:
    """At most so many characters: clients' own words come back in refusals."""
    return text if len(text) <= most else f"{text[:most]}…"
