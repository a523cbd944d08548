"""What the front end and its broker say to each other, and what an agent tells its worker. MessagePack."""

from __future__ import annotations

import msgspec

from mlx_server.workers.cluster.tls import Identity
from mlx_server.workers.parent.starts import Wanted


class Place(msgspec.Struct, tag=True, frozen=True):
    """Start a worker for a replica of a model, which needs so many bytes, on its node, or on the one that Ray finds for
    it. `certificate` is the front end's."""

    number: int
    replica: int
    model: str
    bytes: int
    wanted: Wanted
    model_type: str
    certificate: str


class Free(msgspec.Struct, tag=True, frozen=True):
    """A replica is over."""

    replica: int


class Address(msgspec.Struct, tag=True, frozen=True):
    """Where a worker waits to be called, the certificate that it proves itself with, and Ray's id of its node."""

    number: int
    host: str
    port: int
    certificate: str
    node: str


class NotPlaced(msgspec.Struct, tag=True, frozen=True):
    """A worker could not be started; `refused`: nor could it be at another time."""

    number: int
    reason: str
    refused: bool = False


class Recalled(msgspec.Struct, tag=True, frozen=True):
    """A replica has to give up its place; `why` is part of a line."""

    replica: int
    why: str


class Waits(msgspec.Struct, tag=True, frozen=True):
    """A replica that needs so many bytes still has no agent; `full`: no node has room for it."""

    bytes: int
    full: bool


class Joined(msgspec.Struct, tag=True, frozen=True):
    """The broker is a driver of the cluster."""


class NoCluster(msgspec.Struct, tag=True, frozen=True):
    """Ray can't be reached; the broker ends."""

    reason: str


class Admitted(msgspec.Struct, frozen=True):
    """Who the worker is, and whom it may be called by."""

    own: Identity
    peer: str


Order = Place | Free
Report = Address | NotPlaced | Recalled | Waits | Joined | NoCluster

decode_order = msgspec.msgpack.Decoder(Order).decode
decode_report = msgspec.msgpack.Decoder(Report).decode
decode_admitted = msgspec.msgpack.Decoder(Admitted).decode
