"""On the PYTHONPATH of a server whose HOPS_OUT names a folder: which files of ours its processes enter after SIGUSR2.

Each process writes its own file: a line of JSON for each of our files that a thread entered, in order. What the model
itself calls is not counted: on a CPU, some of its functions are ours.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = str(Path(__file__).resolve().parents[2]) + os.sep
OURS = tuple(ROOT + folder + os.sep for folder in ("app", "queue", "schemas", "workers"))
SEND = ("app" + os.sep, os.sep + "channel.py")
"""A front end has begun with files below the first, and has passed a request on when it enters the second."""
FORWARD = "mlx_lm" + os.sep + "models" + os.sep


class Tracer:
    """A profile function that costs one comparison until it is armed."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._armed = False
        self._seen: list[set[str]] = []
        """Files that the thread of the engine entered: before the first forward pass, and between any two of them."""
        self._entered: list[str] = []
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
        file = frame.f_code.co_filename
        if file.startswith(OURS):
            if self._engine is None and file not in self._entered:
                self._entered.append(file)
                self._write()
                if file.endswith(SEND[1]) and any(entered.startswith(ROOT + SEND[0]) for entered in self._entered):
                    self._armed = False
            elif self._engine == threading.get_ident():
                self._seen[-1].add(file)
        elif FORWARD in file and frame.f_code.co_name == "__call__" and is_model(frame.f_locals):
            self._engine, self._forward = threading.get_ident(), frame
            self._seen.append(set())
            self._write()

    def _write(self) -> None:
        steps = [sorted(step) for step in self._seen]
        whole = {"entered": self._entered, "steps": steps}
        self._out.write_text(json.dumps(whole).replace(ROOT, ""), encoding="utf-8")


def is_model(given: dict[str, Any]) -> bool:
    """The call is a forward pass of a whole model, not of one of its layers."""
    return given.get("cache") is not None and type(given.get("self")).__name__ == "Model"


if "HOPS_OUT" in os.environ:
    tracer = Tracer(Path(os.environ["HOPS_OUT"], f"{os.getpid()}.json"))
    signal.signal(signal.SIGUSR2, tracer.arm)
    threading.setprofile(tracer)
    sys.setprofile(tracer)
