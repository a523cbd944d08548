"""The one shape of an error."""

from __future__ import annotations

from typing import Any

import httpx


def check_shape(response: httpx.Response, status: int, param: str | None = None) -> dict[str, Any]:
    """An error's object, after a look at all that errors have in common."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    body = response.json()
    assert body.keys() == {"error", "detail"}
    error = dict(body["error"])
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"] == body["detail"]
    assert error["message"]
    assert error["param"] == param
    return error
