"""What MLX needs on the machine it finds itself on. It is asked, not the platform's name."""

from __future__ import annotations

import ctypes
import logging
import secrets
from typing import Any

import mlx.core as mx
import psutil
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.generate import generation_stream
from mlx_lm.utils import dequantize_model

from mlx_server.schemas.internal.messages import CpuDtype, MlxMemory
from mlx_server.workers.allowance import Allowance
from mlx_server.workers.engine.runtime import convolutions, gated_delta, packing, vector_math
from mlx_server.workers.errors import ModelLoadError

log = logging.getLogger(__name__)

REUSED_BYTES = 1 << 30
"""Memory that MLX keeps for reuse: as much as passes over whole batches need, and no more.

Its default for a CPU is so small that such a pass spends half its time getting memory from the system; on Metal batches
of ever new shapes would make it grow without an end.
"""


def on_cpu() -> bool:
    """MLX computes on the CPU."""
    return bool(mx.default_device() == mx.Device(mx.DeviceType.cpu))


def on_metal() -> bool:
    """MLX computes on an Apple GPU."""
    return bool(mx.metal.is_available()) and not on_cpu()


def device_name() -> str:
    """What MLX computes on, for people."""
    info = mx.device_info()
    return f"{mx.default_device().type.name} ({info.get('device_name') or info.get('architecture') or 'unknown'})"


def configure(*, quicken: bool = True) -> None:
    """Settle the engine thread's MLX: call it there, first. Without `quicken` the libraries' functions stay, slow or
    not."""
    mx.random.seed(secrets.randbits(63))
    if quicken and not on_metal():
        gated_delta.quicken()
    if on_cpu():
        # Each new constant would be compiled with g++ for seconds.
        mx.disable_compile()
        if quicken:
            convolutions.quicken()
            vector_math.quicken()
    mx.set_cache_limit(REUSED_BYTES)
    working_set = mx.device_info().get("max_recommended_working_set_size")
    if working_set and mx.metal.is_available():
        mx.set_wired_limit(int(working_set))


def settle() -> None:
    """Wait for all that was begun on this thread: what mlx-lm computes ahead of a step's end runs on its own stream."""
    mx.synchronize()
    mx.synchronize(generation_stream)


def memory() -> MlxMemory:
    """MLX's counters, which need no computing to end. Only CUDA's memory is not the machine's own."""
    unified = on_cpu() or bool(mx.metal.is_available())
    return MlxMemory(mx.get_active_memory(), mx.get_cache_memory(), unified)


def release() -> None:
    """Give back to the system what MLX keeps for reuse, and what was freed."""
    mx.clear_cache()
    trim()


def trim() -> None:
    """Give back to the system what was freed: glibc would hold on to most of it."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def free_bytes() -> int:
    """Memory that is left where MLX computes."""
    whole = mx.device_info().get("max_recommended_working_set_size")
    if whole and not on_cpu():
        return max(0, int(whole) - mx.get_active_memory())
    available = int(psutil.virtual_memory().available)
    left = Allowance().left_bytes()
    return available if left is None else min(available, left)


def suit_weights(model: Any, cpu_dtype: CpuDtype) -> tuple[Any, list[str]]:
    """On a CPU hold weights as `cpu_dtype` says: its own kernels for anything but float32 are far slower.

    `auto` keeps quantised ones packed where that is faster here, and dequantises others where memory allows; `packed`
    keeps them so where there is a kernel, `float32` dequantises all, `native` leaves all as it is stored. Nothing of
    the model is evaluated. Returns the model and what there is to say about it. Raises ModelLoadError.
    """
    if not on_cpu():
        return model, []
    if cpu_dtype == "native":
        return model, ["weights stay as they are stored, which a CPU computes slowly"]
    notes: list[str] = []
    if any(hasattr(module, "bits") for module in model.modules()):
        need, available = 4 * float_parameters(model), psutil.virtual_memory().available
        scarce = cpu_dtype == "auto" and need > 0.8 * available
        packed = may_pack(model, cpu_dtype, scarce, notes)
        left = sum(hasattr(module, "bits") for module in model.modules()) - len(packed)
        if packed:
            notes.append(f"quantised weights of {len(packed)} layers stay packed")
        if left and scarce:
            notes.append(
                f"weights of {left} layers stay quantised, which is slow: float32 needs {need / (1 << 30):.1f} GiB,"
                " and too little memory is free"
            )
            # Notes name what a model computes, and how much is free is another number at each start.
            log.info("%.1f GiB of memory are free for the weights", available / (1 << 30))
            if not packed:
                return model, notes
        elif left:
            notes.append(f"quantised weights of {left} layers were dequantised to float32, which a CPU computes faster")
        if not scarce:
            model = dequantize_model(model)
        model.update_modules(tree_unflatten(packed))
    model.set_dtype(mx.float32)
    return model, notes


def may_pack(model: Any, cpu_dtype: CpuDtype, scarce: bool, notes: list[str]) -> list[tuple[str, Any]]:
    """By name, layers that take the place of a model's and keep their weights packed; `scarce`: there is no room for
    float32, so that they need not be faster. Adds to the notes. Raises ModelLoadError."""
    if cpu_dtype == "float32":
        return []
    if packing.kernels_are_installed():
        return packing.packed_layers(model, tried=cpu_dtype == "auto" and not scarce)
    if cpu_dtype == "packed":
        raise ModelLoadError(f"--cpu-dtype packed: {packing.missing_kernels()}")
    notes.append(packing.missing_kernels())
    return []


def size_notes(parameter_bytes: int) -> list[str]:
    """What there is to say of a model that is large for the machine; nothing where MLX knows no limit."""
    recommended = mx.device_info().get("max_recommended_working_set_size")
    if not isinstance(recommended, int) or not mx.metal.is_available():
        return []
    return large_for(parameter_bytes, recommended)


def large_for(parameter_bytes: int, recommended_bytes: int) -> list[str]:
    """The warning that mlx-lm gives, by its rule: nine tenths of what may be wired leave no room for the KV cache."""
    if parameter_bytes <= 0.9 * recommended_bytes:
        return []
    return [
        f"[WARNING] Generating with a model that requires {parameter_bytes >> 20} MB, which is close to the maximum"
        f" recommended size of {recommended_bytes >> 20} MB. This can be slow: `mlx-server doctor` can raise the limit."
    ]


def float_parameters(model: Any) -> int:
    """How many numbers the weights would be if nothing were quantised."""
    packed = sum(module.weight.size * (32 // module.bits - 1) for module in model.modules() if hasattr(module, "bits"))
    return int(packed + sum(array.size for _, array in tree_flatten(model.parameters())))
