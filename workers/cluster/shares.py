"""How front ends share a cluster: one that waits for a replica gets it from one that has two more. And what only one of
its nodes can tell them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

SETTLES_S = 10.0
"""How long nobody is asked for a replica after somebody was: its place is free soon, and taken."""

SILENT_S = 10.0
"""A front end that has said nothing for so long is gone."""


MEMORY = "mlx_memory"
"""The resource of nodes, in bytes, that replicas share."""


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


def needs_of(needs_bytes: int, gpus: bool) -> dict[str, float]:
    """What an agent asks its node for, by the names that Ray has; `gpus`: the cluster has some."""
    return {"CPU": 1, **({"GPU": 1} if gpus else {}), **({MEMORY: needs_bytes} if needs_bytes else {})}


def lacks_room(
    needs: Mapping[str, float], free: Iterable[Mapping[str, float]], queued: Iterable[Mapping[str, float]]
) -> bool:
    """Whether something with these needs is queued, and no node has as much free: what is being started is in no queue,
    and has taken its room."""
    if needs not in queued:
        return False
    return not any(all(node.get(name, 0) >= amount for name, amount in needs.items()) for node in free)


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
        return frozenset(gcs_client().get_draining_nodes())

    def full(self, needs_bytes: int) -> bool:
        """Whether an agent for so many bytes is queued, and no node has room for it."""
        import ray

        gpus = bool(ray.cluster_resources().get("GPU"))
        found = gcs_client().get_all_resource_usage().resource_usage_data
        leaving = self.leaving()
        free = [node.resources_available for node in found.batch if node.node_id.hex() not in leaving]
        queued = [dict(demand.shape) for demand in found.resource_load_by_shape.resource_demands]
        return lacks_room(needs_of(needs_bytes, gpus), free, queued)


def gcs_client() -> Any:
    """What Ray's own libraries ask the cluster with, for a process on one of its nodes."""
    import ray
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    return GcsClient(address=ray.get_runtime_context().gcs_address)
