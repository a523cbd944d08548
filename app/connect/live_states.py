"""What a running server does, as it tells it once a second."""

from __future__ import annotations

from collections.abc import Generator
from http.client import IncompleteRead

import msgspec

from mlx_server.app.connect.running_server import UNANSWERED, another_program, opened, problem_of
from mlx_server.schemas.live import LiveState

LIVE = "/v1/live"
DATA = b"data: "
EVENTS = "text/event-stream"


def live_states(root: str, api_key: str | None, timeout_s: float) -> Generator[LiveState]:
    """One after the other, until the server stops. Raises ServerProblem."""
    url = f"{root}{LIVE}"
    try:
        with opened(url, api_key, timeout_s) as stream:
            if stream.headers.get_content_type() != EVENTS:
                raise another_program(url)
            for line in stream:
                if line.startswith(DATA):
                    yield msgspec.json.decode(line[len(DATA) :], type=LiveState)
    except IncompleteRead:  # it was killed
        return
    except UNANSWERED as error:
        raise problem_of(error, url, keyed=bool(api_key)) from None
