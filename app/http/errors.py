"""One table from failures to what clients get: an error response, or an error event in a stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import cast

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from mlx_server.app.catalog import errors as fleet
from mlx_server.app.deployment.query_queue import Unanswered
from mlx_server.app.http.access_record import record_of
from mlx_server.app.hub.downloads import DownloadElsewhere, DownloadNotFound, DownloadUnderWay, TooManyDownloads
from mlx_server.app.hub.installer import NameTaken
from mlx_server.app.registry.app_settings import SettingNotFound
from mlx_server.queue.errors import LimitReached, QueueClosed, QueueFull
from mlx_server.schemas.internal.errors import (
    THREAD_UNSUPPORTED,
    AnthropicErrorBody,
    AnthropicErrorObject,
    ApiErrorBody,
    ErrorBody,
    ErrorObject,
    InvalidRequest,
    ThreadUnsupported,
)
from mlx_server.schemas.internal.messages import Failed, FailureKind, NoAnswer
from mlx_server.workers.hub.errors import (
    HubBusy,
    HubDenied,
    HubError,
    HubNotFound,
    HubOffline,
    NotAHubId,
    NotEnoughDisk,
    NothingToServe,
    TokenRefused,
)

INVALID = "invalid_request_error"
SERVER = "server_error"

NEVER_AGAIN = {"X-Should-Retry": "false"}
"""OpenAI's and Anthropic's SDKs send what failed twice more by themselves, unless an answer says this."""

ONCE = (FailureKind.TIMEOUT, FailureKind.WORKER_LOST)
"""Failures after which the same work would be done once more for nothing: too long for its time, or more than a worker
survives, which has been tried already."""

CONFLICT = 409

DOWNLOAD_AGAIN_S = 30

ANTHROPIC_ROOT = "/v1/messages"
"""This path and those below it speak Anthropic's API, in refusals too."""

API_ROOT = "/api"
"""Refusals below this path say more, as Impetus' clients read it."""

ANTHROPIC_TYPES: dict[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""By status; of the others, those from 500 on are the server's fault and the rest the client's."""


@dataclass(frozen=True)
class Answer:
    """An error as a client sees it."""

    status: int
    type: str
    message: str
    param: str | None = None
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """The one shape of an error, as JSON."""
        error = ErrorObject(self.message, self.type, self.param, self.code)
        return msgspec.json.encode(ErrorBody(error, self.message))

    def anthropic_body(self, request_id: str | None) -> bytes:
        """The same as Anthropic's clients read it."""
        kind = ANTHROPIC_TYPES.get(self.status, INVALID if self.status < 500 else "api_error")
        threaded = self.code == THREAD_UNSUPPORTED
        details = ThreadUnsupported(THREAD_UNSUPPORTED, [self.param or ""]) if threaded else msgspec.UNSET
        error = AnthropicErrorObject(self.message, kind, self.param, self.code, details)
        return msgspec.json.encode(AnthropicErrorBody(error, self.message, request_id))

    def api_body(self) -> bytes:
        """The same as it is below `/api/`."""
        error = ErrorObject(self.message, self.type, self.param, self.code)
        message = self.message.removeprefix(f"`{self.param}`: ")
        details = [f"{self.param}: {message}"] if self.param else [message]
        return msgspec.json.encode(ApiErrorBody(error, self.message, details, datetime.now(UTC).isoformat()))

    def note(self, scope: Scope) -> None:
        """Let the log say how the request ended."""
        record_of(scope).failed(self.status, self.code or self.type, self.param)

    def response(self, scope: Scope) -> Response:
        """The error as a response to a request, in the shape of the API that its path belongs to."""
        self.note(scope)
        path = scope["path"]
        if speaks_anthropic(path):
            body = self.anthropic_body(scope.get("request_id"))
        else:
            body = self.api_body() if below(path, API_ROOT) else self.body()
        # A retry would meet the same obstacle.
        headers = NEVER_AGAIN | self.headers if self.status == CONFLICT else self.headers
        return Response(body, self.status, headers, "application/json")


def below(path: str, root: str) -> bool:
    """Whether a path is that of an API or below it."""
    return path == root or path.startswith(f"{root}/")


def speaks_anthropic(path: str) -> bool:
    """Whether a path belongs to Anthropic's API."""
    return below(path, ANTHROPIC_ROOT)


HUB: dict[type[HubError], tuple[int, str, str]] = {
    NotAHubId: (400, INVALID, "invalid_hub_id"),
    NothingToServe: (400, INVALID, "not_servable"),
    HubDenied: (403, "permission_error", "hub_access_denied"),
    TokenRefused: (403, "permission_error", "hub_access_denied"),
    HubNotFound: (404, INVALID, "hub_model_not_found"),
    DownloadNotFound: (404, INVALID, "download_not_found"),
    TooManyDownloads: (429, "rate_limit_error", "too_many_downloads"),
    DownloadElsewhere: (409, INVALID, "download_elsewhere"),
    DownloadUnderWay: (409, INVALID, "download_under_way"),
    NameTaken: (409, INVALID, "name_taken"),
    HubOffline: (503, SERVER, "hub_unreachable"),
    HubBusy: (503, SERVER, "hub_busy"),
    NotEnoughDisk: (507, SERVER, "not_enough_disk"),
}
"""What goes wrong with the hub; the rest of it is a download that failed."""

FAILURES: dict[FailureKind, tuple[int, str, str | None]] = {
    FailureKind.INVALID: (400, INVALID, None),
    FailureKind.CANCELLED: (409, INVALID, "request_cancelled"),
    FailureKind.ENGINE: (500, SERVER, "engine_error"),
    FailureKind.WORKER_LOST: (502, SERVER, "worker_lost"),
    FailureKind.SHUTTING_DOWN: (503, SERVER, "shutting_down"),
    FailureKind.UNAVAILABLE: (503, SERVER, "model_unavailable"),
    FailureKind.SLOW_READER: (503, SERVER, "slow_reader"),
    FailureKind.TIMEOUT: (504, "timeout_error", "timeout"),
}

FLEET: dict[type[fleet.FleetError], tuple[int, str, str]] = {
    fleet.ModelNotFound: (404, INVALID, "model_not_found"),
    fleet.ModelNotLoaded: (400, INVALID, "model_not_loaded"),
    fleet.InsufficientMemory: (400, INVALID, "insufficient_memory"),
    fleet.ModelLimitReached: (409, INVALID, "too_many_models"),
    fleet.NotServable: (400, INVALID, "model_not_servable"),
    fleet.ModelBusy: (409, INVALID, "model_busy"),
    fleet.ModelConfigured: (409, INVALID, "model_configured"),
    fleet.LoadFailed: (500, SERVER, "load_failed"),
}
"""Models that can't be had."""

STATUSES: dict[int, tuple[str, str | None]] = {
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", "forbidden"),
    404: (INVALID, "not_found"),
    405: (INVALID, "method_not_allowed"),
    413: (INVALID, "request_too_large"),
}


def of_failure(failed: Failed | NoAnswer) -> Answer:
    """The error for an admitted request that failed, or for a query without an answer."""
    status, kind, code = FAILURES[failed.kind]
    headers: dict[str, str] = {}
    if isinstance(failed, Failed) and failed.retry_after_s is not None:
        headers = retry_after(failed.retry_after_s)
    elif failed.kind in ONCE:
        headers = NEVER_AGAIN
    return Answer(status, kind, failed.message, failed.param, failed.code or code, headers)


def retry_after(seconds: int) -> dict[str, str]:
    """The `Retry-After` header."""
    return {"Retry-After": str(seconds)}


def of_exception(error: Exception) -> Answer:
    """The error for a request that was not admitted."""
    match error:
        case InvalidRequest():
            return Answer(400, INVALID, error.message, error.param, error.code)
        case QueueFull():
            return Answer(429, "rate_limit_error", str(error), None, "queue_full", retry_after(error.retry_after_s))
        case LimitReached():
            again = retry_after(error.retry_after_s)
            return Answer(429, "rate_limit_error", str(error), None, "rate_limit_exceeded", again)
        case QueueClosed():
            status, kind, code = FAILURES[error.kind]
            return Answer(status, kind, str(error), None, code)
        case Unanswered():
            return of_failure(error.why)
        case HubError():
            status, kind, code = HUB.get(type(error), (502, SERVER, "download_failed"))
            headers = retry_after(DOWNLOAD_AGAIN_S) if isinstance(error, TooManyDownloads) else {}
            return Answer(status, kind, str(error), None, code, headers)
        case fleet.FleetError():
            status, kind, code = FLEET[type(error)]
            return Answer(status, kind, str(error), "model", code)
        case SettingNotFound():
            return Answer(404, INVALID, str(error), "key", "setting_not_found")
        case HTTPException():
            kind, code = STATUSES.get(error.status_code, (INVALID if error.status_code < 500 else SERVER, None))
            return Answer(error.status_code, kind, error.detail, None, code, dict(error.headers or {}))
        case _:
            return Answer(500, SERVER, "The server failed to handle this request.", None, "internal_error")


async def handle(request: Request, error: Exception) -> Response:
    """Starlette's exception handler for every class in the table."""
    if isinstance(error, HTTPException) and error.detail == HTTPStatus(error.status_code).phrase:
        error = explained(request, error)
    return of_exception(error).response(request.scope)


def explained(request: Request, error: HTTPException) -> HTTPException:
    """The router's own refusals, with a sentence that helps."""
    path = request.url.path
    if error.status_code == 404:
        message = f"There is nothing at {path}. GET /docs shows what there is; OpenAI's endpoints are under /v1."
    elif error.status_code == 405:
        allowed = cast(dict[str, str], error.headers or {}).get("Allow", "another method")
        message = f"{request.method} is not allowed at {path}; allowed: {allowed}."
    else:
        return error
    return HTTPException(error.status_code, message, error.headers)


EXPLAINED = (
    InvalidRequest,
    QueueFull,
    QueueClosed,
    LimitReached,
    Unanswered,
    HubError,
    fleet.FleetError,
    SettingNotFound,
)

HANDLERS = dict.fromkeys((*EXPLAINED, HTTPException), handle)
