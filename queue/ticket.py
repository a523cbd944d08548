"""One request's life in the queue: its states, the moves between them, and the rows it holds."""

from __future__ import annotations

import math
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

from mlx_server.queue.account import ANYBODY, Account, Priority
from mlx_server.queue.beginnings import Beginning, beginnings_of
from mlx_server.queue.mailbox import Mailbox
from mlx_server.queue.policy import batch_class
from mlx_server.schemas.internal.generation import GenerationRequest
from mlx_server.schemas.internal.messages import Prepared, Progress, Started
from mlx_server.schemas.internal.work import Work

if TYPE_CHECKING:
    from mlx_server.queue.worker_slots import WorkerSlots


class TicketState(Enum):
    """Where a ticket is; all but the first three are ends. A parked one has made way, and its worker keeps it."""

    WAITING = "waiting"
    RUNNING = "running"
    PARKED = "parked"
    SERVED = "served"
    FAILED = "failed"
    INVALID = "invalid"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


_LIVES = {TicketState.WAITING, TicketState.RUNNING, TicketState.PARKED}
_ENDS = set(TicketState) - _LIVES

TRANSITIONS: dict[TicketState, set[TicketState]] = {
    TicketState.WAITING: {TicketState.RUNNING, *_ENDS} - {TicketState.SERVED},
    TicketState.RUNNING: {TicketState.WAITING, TicketState.PARKED, *_ENDS},
    TicketState.PARKED: {TicketState.WAITING, TicketState.RUNNING, *_ENDS},
    **{end: set() for end in _ENDS},
}


class IllegalMoveError(Exception):
    """Raised when a ticket is moved to a state that can't follow the one it is in."""


class Ticket:
    """A request with k sequences that wait for rows, run on them (in turns if need be) and end once."""

    def __init__(
        self,
        number: int,
        request: Work,
        mailbox: Mailbox,
        now: float,
        timeout_s: float,
        limit_s: float | None = None,
        *,
        account: Account = ANYBODY,
        priority: Priority = Priority.NORMAL,
        request_id: str | None = None,
    ) -> None:
        """It may take `timeout_s` until its first token or result and then for each next one, and `limit_s` in all."""
        self.id = number
        self.request = request
        self.account = account
        self.priority = priority
        self.request_id = request_id
        self.batch_class = batch_class(request)
        self.overtaken = 0
        """Rows that went to later requests while this one waited."""
        self.held_since: float | None = None
        """Since when it has declined rows, for a replica that knows its prompt."""
        self.mailbox = mailbox
        self.submitted_at = now
        self.last_event_at = now
        """When it was submitted, and from then on when its last token or result came."""
        self.timeout_s = timeout_s
        self.limit_s = limit_s
        self.state = TicketState.WAITING
        self.slots: WorkerSlots | None = None
        """Where it is prepared or runs."""
        self.survived_a_worker = False
        """A worker that knew it has died."""
        self.started_at: float | None = None
        self.prepared: Prepared | None = None
        """What the worker said once it had made tokens of it, if it is for text."""
        self.started: Started | None = None
        """What the worker announced, if the request wanted it."""
        self.progress: Progress | None = None
        """How far its prompt has been read, if the request wants to know."""
        self.last_text_at: dict[int, float] = {}
        """When each sequence's last text came."""
        self.first_text_at: float | None = None
        """When the first text of any sequence came."""
        self.delivered_tokens = 0
        """Tokens of the texts that have come so far."""
        self.prompt_tokens = self.cached_tokens = self.completion_tokens = 0
        """What its finished sequences have cost."""
        self.rows_granted = 0
        self.rows_done = 0
        self.starts = 0
        """How often it got its first row."""
        self.replays = 0
        """How often it started over because the worker that ran it died."""
        self.sent = False
        """Set by the reader once the client has got a part of an answer: then the request can't be replayed."""

    @cached_property
    def beginnings(self) -> tuple[Beginning, ...]:
        """What a replica may know of its prompt."""
        return beginnings_of(self.request)

    @property
    def ended(self) -> bool:
        """The ticket has come to its one end."""
        return self.state in _ENDS

    @property
    def may_park(self) -> bool:
        """It runs on rows that nobody else wants, and can go on later where it was."""
        request = self.request
        resumes = isinstance(request, GenerationRequest) and not request.echo and request.prompt_logprobs is None
        return self.priority is Priority.IDLE and resumes

    @property
    def deadline(self) -> float:
        """When it is given up, unless a token comes before."""
        return min(self.last_event_at + self.timeout_s, self._last_moment)

    @property
    def used_up(self) -> bool:
        """Its deadline is the end of all of its time, and not only of its time without a token."""
        return self._last_moment <= self.last_event_at + self.timeout_s

    @property
    def overdue(self) -> str:
        """What its client is told after the deadline."""
        if self.used_up:
            return f"Request processing timed out after {self.limit_s:g} seconds in all (--request-timeout)"
        awaited = "token" if self.writes else "result"
        return f"Request processing timed out after {self.timeout_s:g} seconds without a {awaited} (--queue-timeout)"

    @property
    def _last_moment(self) -> float:
        return math.inf if self.limit_s is None else self.submitted_at + self.limit_s

    @property
    def ignored(self) -> tuple[str, ...]:
        """The request's fields that change nothing, as far as that is known by now."""
        said = self.request.ignored if isinstance(self.request, GenerationRequest) else ()
        return said + (self.prepared.ignored if self.prepared else ())

    @property
    def dropped_messages(self) -> int:
        """How many messages were left out of its prompt, as far as that is known by now."""
        return self.prepared.dropped if self.prepared else 0

    @property
    def prefix_shortage(self) -> tuple[int, int] | None:
        """The bytes that its prompt needs to be kept and those that there are, where these are fewer."""
        return self.prepared.prefix_shortage if self.prepared else None

    @property
    def writes(self) -> bool:
        """Its answer is text."""
        return isinstance(self.request, GenerationRequest)

    @property
    def tokens_read(self) -> int:
        """Tokens of its prompts, as far as they are known."""
        if self.state is TicketState.SERVED or self.prepared is None:
            return self.prompt_tokens
        return self.prepared.prompt_tokens

    @property
    def tokens_written(self) -> int:
        """Tokens of its answer so far."""
        return self.completion_tokens if self.state is TicketState.SERVED else self.delivered_tokens

    @property
    def tokens_per_s(self) -> float | None:
        """How fast it writes, from the first token to the last; None before there are two."""
        if self.first_text_at is None or self.tokens_written < 2 or self.last_event_at <= self.first_text_at:
            return None
        return (self.tokens_written - 1) / (self.last_event_at - self.first_text_at)

    @property
    def rows_missing(self) -> int:
        """Sequences that have no row yet."""
        return self.request.rows - self.rows_granted

    @property
    def rows_held(self) -> int:
        """Rows in use now."""
        return 0 if self.ended else self.rows_granted - self.rows_done

    def move(self, state: TicketState) -> None:
        """Go to `state`; an end closes the mailbox. Raises IllegalMoveError."""
        if state not in TRANSITIONS[self.state]:
            raise IllegalMoveError(f"ticket {self.id}: {self.state.value} -> {state.value}")
        self.state = state
        if self.ended:
            self.mailbox.close()

    def grant(self, rows: int, now: float) -> None:
        """Give it `rows` more rows; the first ones start it."""
        if self.state is not TicketState.RUNNING:
            self.move(TicketState.RUNNING)
            self.started_at = now if self.started_at is None else self.started_at
            self.starts += 1
        self.rows_granted += rows

    def park(self) -> None:
        """Give its rows back, and keep what it has said."""
        self.move(TicketState.PARKED)
        self.rows_granted = self.rows_done

    def row_done(self) -> None:
        """One of its sequences has come to its end; in passing, if it is parked."""
        self.rows_done += 1
        self.rows_granted = max(self.rows_granted, self.rows_done)

    def start_over(self, *, died: bool) -> None:
        """Back to waiting, with nothing done, after the worker was lost; `died`: it may be the ticket's fault."""
        self.move(TicketState.WAITING)
        self.replays += died
        self.rows_granted = self.rows_done = 0
        self.started_at = self.started = self.prepared = self.progress = None
        self.last_text_at = {}
        self.first_text_at = None
        self.delivered_tokens = self.prompt_tokens = self.cached_tokens = self.completion_tokens = 0
        self.mailbox.clear()
