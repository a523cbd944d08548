"""A line of a batch as a request to the application: it takes the way of every other, as an idle one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import blake2b

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Scope

from mlx_server.app.batches.rows import PendingLine, StoredBatch
from mlx_server.app.http.access_record import record_of
from mlx_server.app.http.in_process import ANSWER_ID, request_body
from mlx_server.app.http.keys import CREDENTIAL, PRIORITY_HEADER, Credential
from mlx_server.app.middleware.api_key import OWNER
from mlx_server.queue.account import Priority

MOST_ATTEMPTS = 4
"""Failures of the server after which a line is to blame for them."""

WORKER_LOST = 502
"""All that were with a worker fail together when it dies."""

WAITS = (429, 503)
"""There is no room now, or the model can't be had: no line is to blame for that."""

NO_MODEL = ("model_not_found", "model_not_servable", "model_not_loaded")
"""Why a model can't be had that may be there again: its disk is not mounted, or somebody moves or loads it."""

AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class LineAnswer:
    """What a line was answered with; `retry_after_s` if it says so, `ran`: it has held rows, `no_model`: there is no
    such model now, `model`: the name of the deployment that it was for."""

    status: int
    body: bytes
    retry_after_s: float | None
    ran: bool
    no_model: bool = False
    model: str | None = None

    @property
    def blames(self) -> bool:
        """It is a failure that the line may be to blame for."""
        return self.status >= 500 and self.status not in WAITS and (self.ran or self.status != 504)

    @property
    def shared(self) -> bool:
        """It is a failure of all lines that were with a worker, of which one may be to blame."""
        return self.status == WORKER_LOST

    def again_after_s(self, attempts: int) -> float | None:
        """In how many seconds the line is run again that has been to blame so often; None: this is its answer."""
        if self.status not in WAITS and (self.status < 500 or attempts >= MOST_ATTEMPTS):
            return None
        return self.retry_after_s or AGAIN_S


Call = Callable[[StoredBatch, PendingLine, bytes, Credential], Awaitable[LineAnswer]]
"""Has a line answered, whose body is given; its work ends when it is cancelled."""


class LineCaller:
    """Has an application answer lines. `more` is what a request's scope has of the application."""

    def __init__(self, app: ASGIApp, more: Scope) -> None:
        self._app = app
        self._more = more

    async def __call__(self, batch: StoredBatch, line: PendingLine, body: bytes, credential: Credential) -> LineAnswer:
        """The answer to a line. Ends its work when cancelled."""
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "x-request-id": request_id(batch, line),
            PRIORITY_HEADER.lower(): Priority.IDLE.name.lower(),
        }
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": batch.endpoint,
            "raw_path": batch.endpoint.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": None,
            "server": None,
            OWNER: batch.owner,
            CREDENTIAL: credential,
            ANSWER_ID: key_of(batch, line),
            **self._more,
        }
        status, retry_after, parts = 500, "", list[bytes]()

        async def send(message: Message) -> None:
            nonlocal status, retry_after
            if message["type"] == "http.response.start":
                status = message["status"]
                retry_after = Headers(raw=list(message["headers"])).get("retry-after", "")
            else:
                parts.append(message.get("body", b""))

        await self._app(scope, request_body(body), send)
        record = record_of(scope)
        wait_s = float(retry_after) if retry_after.isdigit() else None
        ran = record.ticket is not None and record.ticket.started_at is not None
        no_model = record.reason.partition(" ")[0] in NO_MODEL
        return LineAnswer(status, b"".join(parts), wait_s, ran, no_model, record.model)


def request_id(batch: StoredBatch, line: PendingLine) -> str:
    """What the log calls a line's request."""
    return f"{batch.id}-{line.line}"


def key_of(batch: StoredBatch, line: PendingLine) -> str:
    """A line's own key, the same however often it is run: its answer has it as its id."""
    return blake2b(request_id(batch, line).encode(), digest_size=16).hexdigest()
