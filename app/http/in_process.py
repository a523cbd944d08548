"""Requests that this process makes to its own application: they take the way of those over HTTP."""

from __future__ import annotations

import anyio
from starlette.types import Message, Receive

ANSWER_ID = "mlx_server.answer_id"
"""Where a request's scope has the id of its answer, if the same work must not have two."""


def request_body(body: bytes) -> Receive:
    """The body of a request whose client stays: when it leaves, whoever reads this is cancelled."""
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            await anyio.sleep_forever()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
