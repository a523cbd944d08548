"""Every answer says which request it answers; every request leaves one line in the log."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections import Counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlx_server.app.http.access_record import RECORD, AccessRecord, printable
from mlx_server.app.http.errors import speaks_anthropic
from mlx_server.workers.log_lines import REQUEST_ID

HEADER = "X-Request-Id"
ANTHROPIC_HEADER = "Request-Id"
ACCEPTED = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)

QUIET = (
    "/health",
    "/metrics",
    "/v1/queue/stats",
    "/v1/system/logs",
    "/api/health",
    "/api/hardware/metrics",
    "/socket.io/",
    "/console/",
)
"""Paths that are polled, and files of a page: their lines are for debugging only."""

LEFT = "left"
"""Stands for the status of an answer whose client left before its end."""

log = logging.getLogger("mlx_server.access")


class RequestIdMiddleware:
    """Takes the client's request id if it is a plain one, else makes one; `scope["request_id"]` has it.

    `answered` counts answers by status.
    """

    def __init__(self, app: ASGIApp, answered: Counter[int]) -> None:
        self._app = app
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on everything but the head of the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if ACCEPTED.fullmatch(given) else uuid.uuid4().hex
        scope["request_id"] = request_id
        REQUEST_ID.set(request_id)
        client = scope["client"][0] if scope.get("client") and log.isEnabledFor(logging.DEBUG) else None
        record = scope[RECORD] = AccessRecord(client)
        started = time.perf_counter()
        status, whole = 0, False

        async def send_with_id(message: Message) -> None:
            nonlocal status, whole
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[HEADER] = request_id
                if speaks_anthropic(scope["path"]):
                    headers[ANTHROPIC_HEADER] = request_id
            else:
                whole = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            path = scope["path"]
            self._answered[record.status or status] += 1
            level = logging.DEBUG if path.startswith(QUIET) else logging.INFO
            if log.isEnabledFor(level):
                seconds = time.perf_counter() - started
                end = record.status or (status if whole else LEFT)
                head = {"method": scope["method"], "path": printable(path), "status": end, "seconds": round(seconds, 3)}
                line = scope["method"], printable(path), end, seconds, request_id, record.details()
                log.log(level, "%s %s %s %.3fs %s%s", *line, extra={"facts": head | record.facts()})
