"""On the PYTHONPATH of a server whose HOPS_OUT names a folder: which functions its processes enter after SIGUSR2.

Each process writes its own file of JSON: `entered`, the functions that any thread entered on the way to the first
forward pass, in order, and `steps`, those that the engine's thread entered from each forward pass to the next. A
function is its file, its name and the number of its lines. What the model itself calls is not counted: on a CPU, some
of its functions are ours.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = str(Path(__file__).resolve().parents[2]) + os.sep
OURS = tuple(ROOT + folder + os.sep for folder in ("app", "queue", "schemas", "workers"))
FRONT_END = ROOT + "app" + os.sep
SENDING = os.sep + "channel.py"
"""A front end has passed a request on when it enters this file."""
FORWARD = "mlx_lm" + os.sep + "models" + os.sep

Functions = dict[CodeType, None]
"""A set in the order of entering."""


class Tracer:
    """A profile function that costs one comparison until it is armed."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._armed = False
        self._entered: Functions = {}
        self._steps: list[Functions] = []
        self._engine: int | None = None
        self._forward: FrameType | None = None
        """The forward pass that the engine's thread is in."""

    def arm(self, number: int, frame: FrameType | None) -> None:
        """From now on."""
        self._armed = True

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        if not self._armed or event not in ("call", "return"):
            return
        if event == "return" or self._forward is not None:
            if frame is self._forward:
                self._forward = None
            return
        code = frame.f_code
        if code.co_filename.startswith(OURS):
            if self._engine is None and code not in self._entered:
                self._entered[code] = None
                if code.co_filename.endswith(SENDING) and any(
                    entered.co_filename.startswith(FRONT_END) for entered in self._entered
                ):
                    self._armed = False
                    self._write()
            elif self._engine == threading.get_ident():
                self._steps[-1][code] = None
        elif FORWARD in code.co_filename and code.co_name == "__call__" and is_model(frame.f_locals):
            self._engine, self._forward = threading.get_ident(), frame
            self._steps.append({})
            self._write()

    def _write(self) -> None:
        whole = {"entered": facts(self._entered), "steps": [facts(step) for step in self._steps]}
        self._out.write_text(json.dumps(whole), encoding="utf-8")


def facts(functions: Functions) -> list[tuple[str, str, int]]:
    """File, name and number of lines of each; no bodies of modules and classes, which run as they are imported."""
    return [
        (code.co_filename.removeprefix(ROOT), code.co_qualname, len({line for _, _, line in code.co_lines() if line}))
        for code in functions
        if code.co_flags & CO_OPTIMIZED
    ]


def is_model(given: dict[str, Any]) -> bool:
    """The call is a forward pass of a whole model, not of one of its layers."""
    return given.get("cache") is not None and type(given.get("self")).__name__ == "Model"


if "HOPS_OUT" in os.environ:
    tracer = Tracer(Path(os.environ["HOPS_OUT"], f"{os.getpid()}.json"))
    signal.signal(signal.SIGUSR2, tracer.arm)
    threading.setprofile(tracer)
    sys.setprofile(tracer)
