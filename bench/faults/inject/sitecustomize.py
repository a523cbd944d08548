"""On the PYTHONPATH of a server whose FAULTS_ORDER names a file: what a process breaks in itself after SIGUSR1.

The file is JSON: `at` is where (`module:Class.method`), `times` how often, and `only` a text that the arguments' own
description must hold. The method raises then; with `cut`, it is `Channel.send`, which sends half a frame and dies.

Where SOAK_TASKS names a folder, a process that gets SIGUSR2 writes how many tasks its event loop has into the file that
is named by its process id.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


def obey(number: int, frame: object) -> None:
    """Put a method that fails in the place of one that works."""
    order = json.loads(Path(os.environ["FAULTS_ORDER"]).read_text(encoding="utf-8"))
    module, _, path = order["at"].partition(":")
    owner_name, _, name = path.rpartition(".")
    owner = getattr(importlib.import_module(module), owner_name)
    working = getattr(owner, name)
    left = [order["times"]]

    @functools.wraps(working)
    def failing(*given: Any, **named: Any) -> Any:
        if left[0] and order["only"] in repr(given):
            left[0] -= 1
            if order["cut"]:
                cut(*given)
            raise RuntimeError("a fault was injected here")
        return working(*given, **named)

    setattr(owner, name, failing)


def cut(channel: Any, message: Any) -> None:
    """Half a frame, and the end of the process."""
    body = sys.modules["mlx_server.schemas.internal.messages"].encode(message)
    channel._transport.write((len(body).to_bytes(4, "big") + body)[: 4 + len(body) // 2])
    os._exit(7)


def tell(number: int, frame: object) -> None:
    """Between two lines of the loop's thread, so that its tasks stand still. Nothing where there is no loop."""
    file = Path(os.environ["SOAK_TASKS"], str(os.getpid()))
    with contextlib.suppress(RuntimeError):
        count = len(asyncio.all_tasks())
        unread = file.with_suffix(".new")
        unread.write_text(str(count), encoding="utf-8")
        unread.replace(file)


if "SOAK_TASKS" in os.environ:
    signal.signal(signal.SIGUSR2, tell)

if "FAULTS_ORDER" in os.environ:
    signal.signal(signal.SIGUSR1, obey)
