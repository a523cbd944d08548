"""The handler of what nobody expected."""

from __future__ import annotations

import logging

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlx_server.app.http import errors

log = logging.getLogger(__name__)


class LastResortMiddleware:
    """Turns an unexpected exception into a 500 in the one error shape; the log has the rest."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on."""
        started = False

        async def send_and_see(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_see)
        except ClientDisconnect:
            log.debug("the client of request %s left before its body had come", scope.get("request_id"))
        except Exception as error:
            if scope["type"] != "http":
                raise
            log.exception("request %s failed", scope.get("request_id"))
            answer = errors.of_exception(error)
            answer.note(scope)
            if not started:
                await answer.response(scope)(scope, receive, send)
