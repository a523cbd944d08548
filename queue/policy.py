"""The queue's decisions, as pure functions of facts and the time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mlx_server.queue.account import Priority
from mlx_server.queue.placement import Pace
from mlx_server.schemas.internal.generation import GenerationRequest
from mlx_server.schemas.internal.work import Work

UNMEASURED_SERVICE_S = 5.0
"""How long a request is taken to run before any has been measured."""

UNMEASURED_PREFILL_S = 0.00025
"""How long a character of a prompt is taken to be read before any has been measured: 1,000 tokens a second."""

UTILISATION = 0.8
"""Share of the measured rate that is promised to refused clients: the rest lets the queue drain."""

LONGEST_PROMISE_S = 7200.0
"""Nobody is sent away for longer, however many have been before."""


AGEING_S = 30.0
"""After so long in the queue a request counts as one step more urgent, and then again."""


class BatchClass(NamedTuple):
    """What sequences must have in common to be computed together."""

    adapter: str | None


@dataclass(frozen=True, slots=True)
class Selection:
    """Who gets rows next: a position in the queue, and the most rows it may take (None: as many as are free)."""

    position: int
    most_rows: int | None


def batch_class(request: Work) -> BatchClass:
    """One adapter is on the model at a time."""
    return BatchClass(request.adapter if isinstance(request, GenerationRequest) else None)


def has_fair_place(own: int, owners: int, capacity: int) -> bool:
    """Whether one of a full queue's owners, who has `own` requests there, may have another one: as many as were its
    share if all had alike. `owners` are those who have any.

    So nobody who came first keeps the others out. A queue with n keys holds capacity * (1 + 1/2 + … + 1/n) at most, but
    one for each."""
    return own < max(1, capacity // (owners + (own == 0)))


def urgency(priority: Priority, waited_s: float) -> Priority:
    """How urgent a request is by now: nobody waits for ever behind those that came later and are in more of a hurry,
    but idle ones, which ask for it."""
    if priority is Priority.IDLE:
        return priority
    return Priority(max(Priority.HIGH, priority - int(waited_s // AGEING_S)))


def select_next(
    pending: Iterable[tuple[BatchClass, int]], running: BatchClass | None, patience: int
) -> Selection | None:
    """Who may have free rows now: `pending` has each one's class and how many rows have overtaken it, in their order.

    The class changes when nothing runs, and then to the first one's. Until then others of the running class may
    join, past those of other classes, but past each of these with `patience` rows at most: so like runs with like,
    and everybody's turn comes.
    """
    spare = patience
    for position, (own, overtaken) in enumerate(pending):
        if running is None:
            return Selection(position, None)
        if own == running:
            return Selection(position, spare if position else None)
        spare = min(spare, patience - overtaken)
        if spare <= 0:
            return None
    return None


def pace(mean_service_s: float | None, prefill_s: float | None) -> Pace:
    """How fast workers are, as far as it has been measured."""
    return Pace(
        UNMEASURED_SERVICE_S if mean_service_s is None else mean_service_s,
        UNMEASURED_PREFILL_S if prefill_s is None else prefill_s,
    )


def service_rate(mean_service_s: float | None, running_ages_s: Sequence[float]) -> float:
    """Requests per second that the workers finish (Little's law: those running over the time each runs).

    The running requests' ages correct a mean that was measured on shorter requests, or none at all.
    """
    parallel = max(1, len(running_ages_s))
    mean_age_s = sum(running_ages_s) / parallel
    floor = UNMEASURED_SERVICE_S if mean_service_s is None else mean_service_s
    return parallel / max(floor, mean_age_s, 1e-3)


def promise(now: float, last_promise: float, rate: float, capacity: int) -> float:
    """When the next refused client should come back, so that those who obey come no faster than they are served.

    Clients are told whole seconds and so come in bursts; no second is promised to more of them than fit in the queue.
    Where few fit, chance alone fills the queue often, and less of the rate can be promised.
    """
    utilisation = min(UTILISATION, capacity / (capacity + 2))
    spacing = max(1 / rate, 1 / capacity) / utilisation
    return min(max(now + 1 / rate, last_promise) + spacing, now + LONGEST_PROMISE_S)


def retry_after_s(now: float, promised: float) -> int:
    """The promise as whole seconds, as the header has them (RFC 9110, 10.2.3)."""
    return max(1, math.ceil(promised - now))


def may_replay(*, sent: bool, replays: int) -> bool:
    """A request is replayed once, and only if its client has seen nothing: a poisonous one can't crash everybody."""
    return not sent and replays == 0
