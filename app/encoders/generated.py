"""`/v1/models/{name}/generate`: an answer in one piece."""

from __future__ import annotations

import time

import msgspec

from mlx_server.app.encoders import sse
from mlx_server.app.encoders.collected import collect
from mlx_server.app.encoders.head import Head
from mlx_server.app.encoders.tally import Tally
from mlx_server.app.http.errors import Answer
from mlx_server.schemas.internal.messages import Finished, Part, Started
from mlx_server.schemas.internal.progress import PromptProgress
from mlx_server.schemas.mlx_gui.generate import Generated, GenerateRequest, GenerateUsage, Timing


class GenerateEncoder:
    """One text, and how long it took from the request to its end."""

    def __init__(self, head: Head, given: GenerateRequest) -> None:
        self._head = head
        self._given = given
        self._began_s = time.monotonic()

    def begin(self, started: Started | None = None) -> bytes:
        """This API has no streams."""
        return b""

    def alive(self, progress: PromptProgress | None) -> bytes:
        """This API has no streams."""
        return b""

    def events(self, events: list[Part | Finished]) -> bytes:
        """This API has no streams."""
        return b""

    def end(self) -> bytes:
        """This API has no streams."""
        return b""

    def error(self, answer: Answer) -> bytes:
        """This API has no streams; a failure is a status."""
        return sse.error(answer)

    def whole(self, events: list[Part | Finished]) -> bytes:
        """The answer."""
        tally = Tally()
        for event in events:
            if isinstance(event, Finished):
                tally.add(event)
        usage = tally.usage()
        seconds = time.monotonic() - self._began_s
        answer = Generated(
            self._head.model,
            self._given.prompt,
            "".join(one.text for one in collect(events)),
            GenerateUsage(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens),
            Timing(round(seconds, 3), round(usage.completion_tokens / max(seconds, 1e-9), 3)),
        )
        return msgspec.json.encode(answer)
