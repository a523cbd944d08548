"""How the memory that a loaded model leaves is shared out: KV states of what runs, and those that are kept. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from mlx_server.schemas.internal.messages import Load
from mlx_server.workers.engine.decode.admission import HEADROOM, LONGEST, Footprint
from mlx_server.workers.folders.context_length import shortest

USABLE = 0.8
"""The share of what is free that KV states get; passes need the rest."""

LEAST_RUNNING = 0.2
"""What runs gets this share of what is free, whatever is to be kept."""


@dataclass(frozen=True, slots=True)
class KVBudget:
    """Bytes for the KV states of requests that run together, and for those of prompts that others may begin with.

    `context_length` is the model's, or what the operator allows of it; `max_model_len` what of that one request may
    have, since memory holds no more. In tokens; None: as many as there may be.
    """

    running: int
    kept: int
    context_length: int | None = None
    max_model_len: int | None = None

    @property
    def notes(self) -> list[str]:
        """What there is to say about it."""
        if self.max_model_len == self.context_length:
            return []
        whole = f" of {self.context_length:,}" if self.context_length else ""
        return [f"one request may have {self.max_model_len:,}{whole} tokens: memory holds no more KV states"]


def share_out(spec: Load, length: int | None, size: Footprint, free: float, also_kept: int = 0) -> KVBudget:
    """The room for a model of this context that leaves `free` bytes, of which `also_kept` are for something else.

    What the operator gave in bytes counts. Otherwise kept prompts get `spec.prefix_share` of what may be used, and at
    least what a conversation of the whole context takes; but no more than what runs, and than `spec.prefix_most`.
    """
    length = shortest(length, spec.context_length)
    usable = USABLE * free - also_kept
    kept = spec.prefix_cache_bytes
    if kept is None:
        kept = kept_of(spec, usable, size.bytes_of(length or 0))
    running = max(usable - kept, LEAST_RUNNING * free) if spec.kv_bytes is None else spec.kv_bytes
    return KVBudget(int(running), kept, length, longest(length, size, running))


def kept_of(spec: Load, usable: float, conversation: float) -> int:
    """What `--prefix-cache-mb auto` comes to."""
    left = usable if spec.kv_bytes is None else usable - spec.kv_bytes
    runs = left / 2 if spec.kv_bytes is None else min(spec.kv_bytes, left)
    kept = max(spec.prefix_share * left, min(conversation, runs), 0)
    return int(kept if spec.prefix_most is None else min(kept, spec.prefix_most))


def longest(length: int | None, size: Footprint, running: float) -> int | None:
    """Tokens that one request may have in so many bytes; a short one always may run."""
    found = max(size.tokens_in(running, length or LONGEST), min(HEADROOM, length or LONGEST))
    return None if found >= LONGEST else found
