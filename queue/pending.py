"""Tickets that want rows, in the order in which they are served."""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from operator import attrgetter

from mlx_server.queue import policy
from mlx_server.queue.account import Priority
from mlx_server.queue.ticket import Ticket

MAX_TURNS = 1024
"""Keys whose last turns are remembered."""

Line = dict[int, Ticket]
"""Tickets of one key and priority by number, so in order of arrival."""


class Pending:
    """The most urgent first; among these the keys that hold fewest rows, in turns; of one key, first come first.

    Who waits becomes more urgent with time. `rows_of` says how many rows a key's owner holds. Who holds as many as its
    key may is passed over.
    """

    def __init__(self, rows_of: Callable[[str], int]) -> None:
        self._rows_of = rows_of
        self._lines: dict[tuple[Priority, str], Line] = {}
        self._turns: OrderedDict[str, int] = OrderedDict()
        """When each key was served last, as the number of a turn; who is new stands before who has just been served."""
        self._turn = 0
        self.now = 0.0
        """The time at which the order is looked at."""

    def add(self, ticket: Ticket) -> None:
        """A ticket that came last."""
        if ticket.account.owner not in self._turns:
            self._remember(ticket, self._turn - 1)
        self._lines.setdefault(line_of(ticket), {})[ticket.id] = ticket

    def requeue(self, ticket: Ticket) -> None:
        """A ticket takes the place that it had."""
        self.add(ticket)
        self._lines[line_of(ticket)] = dict(sorted(self._lines[line_of(ticket)].items()))

    def remove(self, ticket: Ticket) -> None:
        """A ticket wants no more rows; unknown ones are ignored."""
        line = self._lines.get(line_of(ticket), {})
        line.pop(ticket.id, None)
        if not line:
            self._lines.pop(line_of(ticket), None)

    def served(self, ticket: Ticket) -> None:
        """Its key has had its turn."""
        self._turn += 1
        self._remember(ticket, self._turn)

    def __iter__(self) -> Iterator[Ticket]:
        """All of them."""
        return self._in_order(lambda _: False)

    def servable(self) -> Iterator[Ticket]:
        """Those whose keys may hold more rows."""
        return self._in_order(lambda ticket: self.rows_left(ticket) == 0)

    def rows_left(self, ticket: Ticket) -> int | None:
        """How many more rows a ticket's key may hold; None: as many as there are."""
        most = ticket.account.limits.rows
        return None if most is None else max(0, most - self._rows_of(ticket.account.owner))

    def _remember(self, ticket: Ticket, turn: int) -> None:
        self._turns[ticket.account.owner] = turn
        self._turns.move_to_end(ticket.account.owner)
        if len(self._turns) > MAX_TURNS:
            self._turns.popitem(last=False)

    def _in_order(self, passed_over: Callable[[Ticket], bool]) -> Iterator[Ticket]:
        for urgency in Priority:
            # Each key's next ticket, behind as many of its own as would have got rows before it.
            turns = []
            for owner, line in self._lines_at(urgency).items():
                first = next(line, None)
                if first is not None and not passed_over(first):
                    turns.append((self._rows_of(owner), self._turns.get(owner, 0), first.id, first, line))
            heapq.heapify(turns)
            while turns:
                rows, turn, _, ticket, line = turns[0]
                yield ticket
                following = next(line, None)
                if following is None:
                    heapq.heappop(turns)
                else:
                    heapq.heapreplace(turns, (rows + 1, turn, following.id, following, line))

    def _lines_at(self, urgency: Priority) -> dict[str, Iterator[Ticket]]:
        """Each key's tickets that are as urgent as that by now, in order of arrival."""
        found: dict[str, list[Iterator[Ticket]]] = {}
        for (priority, owner), line in self._lines.items():
            if priority >= urgency:
                found.setdefault(owner, []).append(self._stretch(line, urgency))
        return {owner: heapq.merge(*stretches, key=attrgetter("id")) for owner, stretches in found.items()}

    def _stretch(self, line: Line, urgency: Priority) -> Iterator[Ticket]:
        """The tickets of a line that are as urgent as that: the earlier one came, the more it is."""
        later = itertools.dropwhile(lambda ticket: self._urgency(ticket) < urgency, line.values())
        return itertools.takewhile(lambda ticket: self._urgency(ticket) == urgency, later)

    def _urgency(self, ticket: Ticket) -> Priority:
        return policy.urgency(ticket.priority, self.now - ticket.submitted_at)


def line_of(ticket: Ticket) -> tuple[Priority, str]:
    """Which line a ticket stands in."""
    return ticket.priority, ticket.account.owner
