"""How the memory beside a loaded model is split: KV states of requests in flight, and the prefix cache. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from mlx_server.schemas.internal.messages import Load
from mlx_server.workers.engine.decode.admission import HEADROOM, LONGEST, Footprint
from mlx_server.workers.folders.context_length import shortest

USABLE = 0.8
"""The share of free memory that KV states get; forward passes need the rest."""

LEAST_RUNNING = 0.2
"""The least share of free memory for requests in flight, whatever is to be cached."""


USUAL_TOKENS = 2048
"""A request of so many has room beside a loaded model, however little the model was granted."""


@dataclass(frozen=True, slots=True)
class KVBudget:
    """Bytes for the KV states of requests in flight (`running`) and for the prefix cache (`kept`).

    `context_length` is the model's, or the operator's lower limit; `max_model_len` is how much of it memory allows one
    request. Both are in tokens; None for no limit.
    """

    running: int
    kept: int
    context_length: int | None = None
    max_model_len: int | None = None

    @property
    def memory_bounds(self) -> bool:
        """Memory allows one request less than the model does."""
        return self.max_model_len != self.context_length

    @property
    def notes(self) -> list[str]:
        """What the operator should know about it."""
        if not self.memory_bounds:
            return []
        whole = f" of {self.context_length:,}" if self.context_length else ""
        return [f"one request may have {self.max_model_len:,}{whole} tokens: memory holds no more KV states"]


def share_out(spec: Load, length: int | None, size: Footprint, free: float, also_kept: int = 0) -> KVBudget:
    """Split `free` bytes beside a model with a context of `length` tokens; `also_kept` of them are for something else.

    Sizes that the operator set in bytes are used as they are. Otherwise the prefix cache gets `spec.prefix_share` of
    what is usable, and at least the size of one conversation that fills the context; but no more than requests in
    flight get, and no more than `spec.prefix_most`.
    """
    length = shortest(length, spec.context_length)
    usable = USABLE * free - also_kept
    kept = spec.prefix_cache_bytes
    if kept is None:
        kept = kept_of(spec, usable, size.bytes_of(length or 0))
    running = max(usable - kept, LEAST_RUNNING * free) if spec.kv_bytes is None else spec.kv_bytes
    return KVBudget(int(running), kept, length, longest(length, size, running))


def usual_bytes(length: int | None, size: Footprint) -> float:
    """Of free memory, what a usual request needs of a model with a context of `length` tokens."""
    return size.bytes_of(min(USUAL_TOKENS, length or USUAL_TOKENS)) / USABLE


def kept_of(spec: Load, usable: float, conversation: float) -> int:
    """The bytes that `--prefix-cache-mb auto` stands for; a `conversation` that fills the context takes that many
    bytes."""
    left = usable if spec.kv_bytes is None else usable - spec.kv_bytes
    runs = left / 2 if spec.kv_bytes is None else min(spec.kv_bytes, left)
    kept = max(spec.prefix_share * left, min(conversation, runs), 0)
    return int(kept if spec.prefix_most is None else min(kept, spec.prefix_most))


def longest(length: int | None, size: Footprint, running: float) -> int | None:
    """The most tokens that one request may have in `running` bytes; HEADROOM tokens are always allowed."""
    found = max(size.tokens_in(running, length or LONGEST), min(HEADROOM, length or LONGEST))
    return None if found >= LONGEST else found
