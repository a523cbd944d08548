"""How much memory a model will need, before it is loaded. Pure: what its files say and how it is served in, bytes out.

The constants were chosen against the resident memory of real workers
(tests/app/fleet/test_memory_estimate_of_workers.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlx_server.app.catalog.model_facts import ModelOnDisk
from mlx_server.app.machine.device import Device
from mlx_server.schemas.internal.messages import CpuDtype
from mlx_server.schemas.internal.state_bits import StateBits
from mlx_server.workers.folders.context_length import shortest

SEQUENCE_TOKENS = 2048
"""What a running sequence is taken to hold. Longer contexts are real, and are noticed when memory is measured."""

SCRIPTED_BYTES = 64 << 20
"""A worker without MLX."""

PROCESS_BYTES = 256 << 20
"""A worker's interpreter, MLX and tokenizer: from 110 MB with a tiny vocabulary."""

SIGHTED_PROCESS_BYTES = 512 << 20
"""The same where mlx-vlm's image processors come in too."""

WORKING_BYTES = 128 << 20
WORKING_SHARE = 1 / 16
"""Activations of a pass, logits, and buffers that MLX keeps for the next: so much, and this share of the weights."""

CACHE_COPIES = 1.5
"""A batch that grows, shrinks or takes in a sequence copies its cache, layer by layer, and what was freed lingers."""

PREFIX_CACHE_BYTES = 1 << 30
PREFIX_CACHE_SHARE = 1 / 4
"""Kept prompts usually get so much, where nothing was said about them, and this share of what a limit leaves."""

UNFOLDED = 3.5
"""How much more the autoencoder of a model that draws takes on a CPU, which unfolds the nine places of its kernels."""

FULL_PRECISION = 4
"""Bytes of a number in float32."""

PACKED = ("2-bit", "4-bit", "8-bit")
"""Quantised weights that a CPU can multiply with as they are."""

PACKED_SHARE = 1.25
"""Of the bytes that are stored: what is not packed, as scales, becomes float32."""

PACKED_FROM = 1_200_000_000
"""Numbers in the weights from which matrices are so wide (2,048 and more) that a CPU is faster with packed ones; those
of smaller models mostly become float32."""

STATE_GROUP_BITS = {False: 0.5, True: 1.0}
"""Bits by which quantised KV states are more than their own: a scale and a bias for each group of 64, in half precision
or, where computing is `wide`, in float32."""

HALF_PRECISION = 2
"""Bytes of a number in float16."""


@dataclass(frozen=True)
class Serving:
    """How a model is to be served. `rows` sequences at once in each of `replicas` workers; `drafts` sit beside it.

    `cache_limit_bytes` is what each worker may keep between requests: prefixes, features of pictures; `auto_prefixes`:
    for prefixes it takes what suits the model. `context_length` bounds the model's own. `kv_bits` hold KV states.
    """

    type: str
    rows: int
    replicas: int = 1
    cache_limit_bytes: int = 0
    cpu_dtype: CpuDtype = "auto"
    drafts: Sequence[ModelOnDisk] = ()
    context_length: int | None = None
    auto_prefixes: bool = False
    kv_bits: StateBits | None = None


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of all a model's workers together. `cpu_dtype` is how they have to be told to hold its weights for that,
    and `prefixes` what each may take for kept prompts, None where the operator said it."""

    weights: int
    cache: int
    overhead: int
    cpu_dtype: CpuDtype = "auto"
    prefixes: int | None = None

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.overhead


def estimate_of(model: ModelOnDisk, serving: Serving, device: Device, limit_bytes: int | None = None) -> MemoryEstimate:
    """What a model needs. On a CPU that packs, a large model's weights are taken to stay packed. Where float32 would
    break the limit, they have to, or to stay as they are stored."""
    found = estimate(model, serving, device, serving.cpu_dtype)
    if device.kind == "cpu" and serving.cpu_dtype == "auto":
        breaks = limit_bytes is not None and found.total > limit_bytes
        if device.packs and model.quantisation in PACKED:
            if breaks or (model.parameters or PACKED_FROM) >= PACKED_FROM:
                found = replace(estimate(model, serving, device, "packed"), cpu_dtype="packed" if breaks else "auto")
        elif breaks:
            found = estimate(model, serving, device, "native")
    if not serving.auto_prefixes:
        return found
    prefixes = prefix_cache_bytes(model, serving, device, found, limit_bytes)
    return replace(found, cache=found.cache + serving.replicas * prefixes, prefixes=prefixes)


def prefix_cache_bytes(
    model: ModelOnDisk, serving: Serving, device: Device, base: MemoryEstimate, limit_bytes: int | None
) -> int:
    """What each worker may take for kept prompts: a conversation of the whole context if that is more than usual, but
    no more than a share of what the limit leaves."""
    wide = device.kind == "cpu" and base.cpu_dtype != "native"
    tokens = shortest(model.context_length, serving.context_length) or 0
    token = sum(token_bytes(one, wide=wide, bits=bits) for one, bits in holding(model, serving))
    wanted = max(PREFIX_CACHE_BYTES, token * tokens)
    if limit_bytes is None:
        return wanted
    return min(wanted, int(PREFIX_CACHE_SHARE * max(0, limit_bytes - base.total)) // serving.replicas)


def part_of(whole: MemoryEstimate, here: int, ranks: int) -> MemoryEstimate:
    """What a model takes of this machine's memory that has so many of its ranks `here`; each is a process."""
    prefixes = None if whole.prefixes is None else whole.prefixes // ranks
    return MemoryEstimate(
        whole.weights * here // ranks, whole.cache * here // ranks, whole.overhead * here, whole.cpu_dtype, prefixes
    )


def scripted_estimate(replicas: int) -> MemoryEstimate:
    """The estimate of scripted models."""
    return MemoryEstimate(0, 0, replicas * SCRIPTED_BYTES)


def estimate(model: ModelOnDisk, serving: Serving, device: Device, cpu_dtype: CpuDtype) -> MemoryEstimate:
    """What a model needs with its weights held so."""
    wide = device.kind == "cpu" and cpu_dtype != "native"
    models = (model, *serving.drafts)
    weights = sum(weight_bytes(one, device, cpu_dtype) for one in models)
    held = holding(model, serving) if serving.type in ("lm", "vlm") else []
    cache = sum(cache_bytes(one, serving.rows, wide=wide, bits=bits) for one, bits in held)
    step = int((model.step_bytes or 0) * (UNFOLDED if device.kind == "cpu" else 1))
    process = SIGHTED_PROCESS_BYTES if serving.type in ("vlm", "image") else PROCESS_BYTES
    return MemoryEstimate(
        serving.replicas * weights,
        serving.replicas * (int(CACHE_COPIES * cache) + serving.cache_limit_bytes),
        serving.replicas * (process + WORKING_BYTES + int(WORKING_SHARE * weights) + step),
        cpu_dtype,
    )


def holding(model: ModelOnDisk, serving: Serving) -> list[tuple[ModelOnDisk, StateBits | None]]:
    """What holds KV states, and in how many bits."""
    return [(model, serving.kv_bits), *((draft, None) for draft in serving.drafts)]


def weight_bytes(model: ModelOnDisk, device: Device, cpu_dtype: CpuDtype) -> int:
    """A model's weights in memory."""
    converted = model.path.suffix == ".gguf"  # to float16 on Metal, to float32 elsewhere, before it is loaded
    if not converted and (device.kind != "cpu" or cpu_dtype == "native"):
        return model.weight_bytes
    if not converted and cpu_dtype == "packed" and model.quantisation in PACKED:
        return int(PACKED_SHARE * model.weight_bytes)
    size = HALF_PRECISION if converted and device.kind == "metal" else FULL_PRECISION
    return size * (model.parameters if model.parameters is not None else model.weight_bytes)


def cache_bytes(model: ModelOnDisk, rows: int, *, wide: bool, bits: StateBits | None) -> int:
    """Keys and values of as many sequences of a usual length."""
    tokens = min(SEQUENCE_TOKENS, model.context_length or SEQUENCE_TOKENS)
    return token_bytes(model, wide=wide, bits=bits) * tokens * rows


def token_bytes(model: ModelOnDisk, *, wide: bool, bits: StateBits | None = None) -> int:
    """Keys and values of a token: twice as large in float32 as in half precision, and less in few bits, which those in
    sliding windows never are."""
    whole = (model.kv_bytes_per_token or 0) * (2 if wide else 1)
    if bits is None:
        return whole
    mean = sum(bits.widths) / len(bits.widths) + STATE_GROUP_BITS[wide]
    share = mean / (8 * (FULL_PRECISION if wide else HALF_PRECISION))
    return int(whole * (model.window_share + (1 - model.window_share) * share))
