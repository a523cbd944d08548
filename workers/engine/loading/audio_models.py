"""Models that mlx-audio loads: all of their weights, and none of their code."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mlx_server.schemas.internal.messages import CpuDtype
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.errors import ModelLoadError, one_line

Loader = Callable[..., Any]


class Parameters(dict[str, Any]):
    """The names of a function's parameters and what they are by default, without what it swallows as `**kwargs`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        named = inspect.signature(function).parameters.values()
        super().__init__((one.name, one.default) for one in named if one.kind is not inspect.Parameter.VAR_KEYWORD)

    def first(self, names: Iterable[str]) -> str:
        """The first of these that it has; empty if it has none."""
        return next((name for name in names if name in self), "")


def read_audio_model(load: Loader, folder: Path, cpu_dtype: CpuDtype) -> tuple[Any, list[str]]:
    """What one of mlx-audio's `load` makes of a folder, not evaluated yet, with its weights as suit the machine, and
    notes. Raises ModelLoadError, also where weights are missing."""
    notes: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                model = load(folder, lazy=True, strict=True)
            except ValueError as error:
                # MLX names what is too much before it looks for what is missing.
                if "not in model" not in str(error):
                    raise
                notes.append(f"weights that its class does not know are not used: {one_line(error)}")
                model = load(folder, lazy=True, strict=False)
    except Exception as error:
        raise ModelLoadError(f"{folder} can't be loaded by mlx-audio: {one_line(error)}") from error
    notes += [" ".join(str(one.message).split()) for one in caught if issubclass(one.category, UserWarning)]
    model, suited = platform.suit_weights(model, cpu_dtype)
    return model, [*notes, *suited]
