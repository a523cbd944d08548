"""Keep-alives: when a stream sends something though none of its answer is there, and the progress it reports then."""

from __future__ import annotations

import time

from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.ticket import Ticket, TicketState
from mlx_server.schemas.internal.generation import GenerationRequest
from mlx_server.schemas.internal.progress import PromptProgress

PROGRESS_S = 1.0
"""How often it is looked for progress that a client wants to know."""

EARLY_S = 0.01
"""Timers may go off a little too soon: an event loop's clock has milliseconds."""


class Keepalive:
    """Of one stream. An event is due after `keepalive_s` seconds of silence (0: never), and when there is progress to
    tell."""

    def __init__(self, queue: Dispatcher, ticket: Ticket, keepalive_s: float) -> None:
        self._queue = queue
        self._ticket = ticket
        self._keepalive_s = keepalive_s
        self._wants_progress = isinstance(ticket.request, GenerationRequest) and ticket.request.progress
        self._reported: PromptProgress | None = None
        self._sent_at = time.monotonic()

    @property
    def interval_s(self) -> float | None:
        """How long to wait before an event may be due; None: none ever is."""
        if not self._wants_progress:
            return self._keepalive_s or None
        return min(self._keepalive_s or PROGRESS_S, PROGRESS_S)

    @property
    def due(self) -> bool:
        """Nothing has been sent for `keepalive_s`."""
        return bool(self._keepalive_s) and time.monotonic() - self._sent_at >= self._keepalive_s - EARLY_S

    def sent(self) -> None:
        """Something has been sent."""
        self._sent_at = time.monotonic()

    def new_progress(self) -> PromptProgress | None:
        """The progress that has not been reported yet; None too if nobody wants it."""
        progress = progress_of(self._queue, self._ticket) if self._wants_progress else None
        if progress == self._reported:
            return None
        self._reported = progress
        return progress


def progress_of(queue: Dispatcher, ticket: Ticket) -> PromptProgress:
    """How far a request's prompt is."""
    prepared, progress = ticket.prepared, ticket.progress
    position = queue.position(ticket) if ticket.state is not TicketState.RUNNING else None
    return PromptProgress(
        "prefill" if position is None else "queued",
        position,
        None if position is None else queue.eta_s(position),
        prepared.prompt_tokens if prepared else None,
        progress.done if progress else 0,
    )
