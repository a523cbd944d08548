"""What MLX needs on the machine it finds itself on. It is asked, not the platform's name."""

from __future__ import annotations

import secrets
from typing import Any

import mlx.core as mx
import psutil
from mlx.utils import tree_flatten
from mlx_lm.utils import dequantize_model


def on_cpu() -> bool:
    """MLX computes on the CPU."""
    return bool(mx.default_device() == mx.Device(mx.DeviceType.cpu))


def device_name() -> str:
    """What MLX computes on, for people."""
    info = mx.device_info()
    return f"{mx.default_device().type.name} ({info.get('device_name') or info.get('architecture') or 'unknown'})"


def configure() -> None:
    """Settle the engine thread's MLX: call it there, first."""
    mx.random.seed(secrets.randbits(63))
    if on_cpu():
        # Each new constant would be compiled with g++ for seconds.
        mx.disable_compile()
    working_set = mx.device_info().get("max_recommended_working_set_size")
    if working_set and mx.metal.is_available():
        mx.set_wired_limit(int(working_set))


def room_for_states(also_kept: int) -> int:
    """Bytes that KV states of what runs may take, once a model is loaded: most of what is left beside `also_kept`."""
    whole = mx.device_info().get("max_recommended_working_set_size")
    left = int(whole) - mx.get_active_memory() if whole and not on_cpu() else psutil.virtual_memory().available
    return int(max(0.8 * left - also_kept, 0.2 * left))


def keep_buffers() -> None:
    """Keep as much memory for reuse as passes over whole batches need, and no more.

    MLX's default for a CPU is so small that such a pass spends half its time getting memory from the system; on Metal
    batches of ever new shapes would make it grow without an end.
    """
    mx.set_cache_limit(1 << 30)


def suit_weights(model: Any) -> tuple[Any, list[str]]:
    """On a CPU hold float32 weights, unquantised where memory allows: its other kernels are far slower.

    Nothing is evaluated. Returns the model and what there is to say about it.
    """
    if not on_cpu():
        return model, []
    notes = []
    if any(hasattr(module, "bits") for module in model.modules()):
        need = 4 * float_parameters(model)
        available = psutil.virtual_memory().available
        if need > 0.8 * available:
            notes.append(
                f"weights stay quantised: float32 needs {need / 1e9:.1f} GB, {available / 1e9:.1f} GB are free"
            )
            return model, notes
        model = dequantize_model(model)
        notes.append("quantised weights were dequantised to float32, which a CPU computes faster")
    model.set_dtype(mx.float32)
    return model, notes


def float_parameters(model: Any) -> int:
    """How many numbers the weights would be if nothing were quantised."""
    packed = sum(module.weight.size * (32 // module.bits - 1) for module in model.modules() if hasattr(module, "bits"))
    return int(packed + sum(array.size for _, array in tree_flatten(model.parameters())))
