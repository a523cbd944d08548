"""What the ranks say to each other beside MLX's own messages: framed as between a worker and its parent.

Rank 0 decides everything. What it does with caches and the model it has the others do too, in the same order.
"""

from __future__ import annotations

import msgspec

from mlx_server.schemas.internal.messages import Load


class Join(msgspec.Struct, frozen=True, tag="join", array_like=True):
    """Become a rank: `environment` and `files` (by the variable that names each) are what MLX's backend reads."""

    rank: int
    load: Load
    environment: dict[str, str]
    files: dict[str, str]


class Enter(msgspec.Struct, frozen=True, tag="enter", array_like=True):
    """All ranks have found the model: meet the others by MLX now. Comes before all orders."""


class MakeCache(msgspec.Struct, frozen=True, tag="make", array_like=True):
    """Make the model's empty cache."""

    made: int


class Fork(msgspec.Struct, frozen=True, tag="fork", array_like=True):
    """Copy a cache."""

    made: int
    cache: int


class Merge(msgspec.Struct, frozen=True, tag="merge", array_like=True):
    """Make one batch's cache of single rows' caches."""

    made: int
    caches: list[int]


class Extend(msgspec.Struct, frozen=True, tag="extend", array_like=True):
    """Add the rows of another batch's cache."""

    cache: int
    other: int


class Extract(msgspec.Struct, frozen=True, tag="extract", array_like=True):
    """Make a single row's cache of a batch's; `own`: in memory of its own."""

    made: int
    cache: int
    row: int
    own: bool


class Keep(msgspec.Struct, frozen=True, tag="keep", array_like=True):
    """Drop all rows but these."""

    cache: int
    rows: list[int]


class Pad(msgspec.Struct, frozen=True, tag="pad", array_like=True):
    """Rows of these lengths in tokens will be read, padded on the right with so many."""

    cache: int
    lengths: list[int]
    padding: list[int]


class Unpad(msgspec.Struct, frozen=True, tag="unpad", array_like=True):
    """What was padded has been read."""

    cache: int


class Shorten(msgspec.Struct, frozen=True, tag="shorten", array_like=True):
    """Cut the cache of `tokens` tokens to the first `length`."""

    cache: int
    tokens: int
    length: int


class Forget(msgspec.Struct, frozen=True, tag="forget", array_like=True):
    """These caches are not needed any more."""

    caches: list[int]


class Forward(msgspec.Struct, frozen=True, tag="forward", array_like=True):
    """Call the model with tokens of this shape [B, T], which come by MLX; `reads`: only for what it leaves in the
    cache."""

    shape: tuple[int, int]
    cache: int | None
    reads: bool


class Measure(msgspec.Struct, frozen=True, tag="measure", array_like=True):
    """Say by MLX how much memory is free."""


Order = MakeCache | Fork | Merge | Extend | Extract | Keep | Pad | Unpad | Shorten | Forget | Forward | Measure


class Hello(msgspec.Struct, frozen=True, tag="hello", array_like=True):
    """A rank's process has started: the versions that it runs, and a port that is free on its machine."""

    versions: dict[str, str]
    port: int


class Resolved(msgspec.Struct, frozen=True, tag="resolved", array_like=True):
    """A rank has found the model, and waits to enter."""


class Alive(msgspec.Struct, frozen=True, tag="alive", array_like=True):
    """A rank's heartbeat."""


class Refused(msgspec.Struct, frozen=True, tag="refused", array_like=True):
    """A rank can't go on, for this reason, and ends."""

    message: str


FromRank = Hello | Resolved | Alive | Refused

HEAD_BYTES = 4
"""A frame begins with its length, big-endian."""

encoder = msgspec.msgpack.Encoder()
decode_join = msgspec.msgpack.Decoder(Join).decode
decode_enter = msgspec.msgpack.Decoder(Enter).decode
decode_orders = msgspec.msgpack.Decoder(list[Order]).decode
decode_from_rank: msgspec.msgpack.Decoder[FromRank] = msgspec.msgpack.Decoder(FromRank)


def frame(message: Join | Enter | list[Order] | FromRank) -> bytes:
    """A message with its length before it."""
    body = encoder.encode(message)
    return len(body).to_bytes(HEAD_BYTES, "big") + body
