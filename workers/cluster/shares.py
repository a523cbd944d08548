"""How front ends share a cluster: one that waits for a replica gets it from one that has two more. And what only one of
its nodes can tell them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

SETTLES_S = 10.0
"""How long nobody is asked for a replica after somebody was: its place is free soon, and taken."""

SILENT_S = 10.0
"""A front end that has said nothing for so long is gone."""


class Standing(NamedTuple):
    """Of a front end: how many replicas have places, the bytes of each that it could do without, since another one
    serves the same model, and of each for which it has waited."""

    held: int
    spare: tuple[int, ...]
    waiting: tuple[int, ...]


def asked_for(own: Standing, others: Iterable[Standing]) -> int | None:
    """At least how many bytes the replica has that a front end should give up for another, which would hold no more
    than it then; None: it keeps all."""
    wanted = [min(other.waiting) for other in others if other.waiting and other.held + 1 < own.held]
    least = min(wanted, default=None)
    return least if least is not None and least <= max(own.spare, default=-1) else None


class Shares:
    """The actor to which all front ends say how they stand, again and again: another one soon knows as much."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[float, Standing]] = {}
        self._asked_at = -SETTLES_S

    def say(self, who: str, standing: Standing) -> int | None:
        """Returns what is asked for, if anything (see `asked_for`)."""
        now = time.monotonic()
        self._said = {one: said for one, said in self._said.items() if one != who and now - said[0] < SILENT_S}
        found = asked_for(standing, [other for _, other in self._said.values()])
        self._said[who] = now, standing
        if found is None or now - self._asked_at < SETTLES_S:
            return None
        self._asked_at = now
        return found

    def leaving(self) -> frozenset[str]:
        """Ray's ids of the nodes that are about to be taken away: they are drained."""
        import ray
        from ray._raylet import GcsClient

        client = GcsClient(address=ray.get_runtime_context().gcs_address)
        return frozenset(client.get_draining_nodes())
