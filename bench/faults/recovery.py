"""How soon a model serves after its worker was killed, and after another had its place: servers in turns."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from lib.processes import ServerProcess
from rich.console import Console

MODELS = ("a", "b")
REST_S = 4.0
"""Before a fault: the time in which a standby is made."""

RESTARTED_S, RESTARTED, SWITCHED = 1.5, 1 / 3, 0.5
"""Targets: seconds with a standby; of the time without one; of the time of the other checkout."""


def recover(
    model: Path, scratch: Path, rounds: int, against: Path | None, console: Console
) -> tuple[dict[str, Any], bool]:
    """Seconds by server and kind, and whether the targets were met."""
    ours = (sys.executable, "-m", "mlx_server.app")
    commands = {"standby": (*ours, "launch"), "without": (*ours, "launch", "--no-standby")}
    if against is not None:
        commands["against"] = (str(against / ".venv/bin/python"), "-m", "mlx_server.app", "launch")
    restarts: dict[str, list[float]] = {name: [] for name in commands}
    switches: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            # A server's first death: later ones may count as a row, which waits longer and longer.
            with ServerProcess([*command, f"--model-path={model}"], scratch / f"restart-{name}.log") as server:
                answered_after(server, MODELS[0])
                time.sleep(REST_S)
                restarts[name].append(restarted_after(server))
    named = [f"--model={name}={model}" for name in MODELS]
    with contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(
                ServerProcess([*command, *named, "--max-models=1"], scratch / f"switch-{name}.log")
            )
            for name, command in commands.items()
        }
        for number in range(-len(MODELS), rounds):
            time.sleep(REST_S)
            for name, server in servers.items():
                took = answered_after(server, MODELS[number % 2])
                if number >= 0:
                    switches[name].append(took)
    times = {"restart": restarts, "switch": switches}
    medians = {kind: {name: median(each) for name, each in found.items()} for kind, found in times.items()}
    figures = {"medians_s": medians, "seconds": times}
    base = "against" if against is not None else "without"
    console.print(medians, {kind: round(each["standby"] / each[base], 3) for kind, each in medians.items()})
    restart, switch = medians["restart"], medians["switch"]
    good = restart["standby"] < RESTARTED_S and restart["standby"] <= RESTARTED * restart[base]
    return figures, good and switch["standby"] <= SWITCHED * switch[base]


def restarted_after(server: ServerProcess) -> float:
    """Seconds until an answer after the worker was killed."""
    holder(server).kill()
    return answered_after(server, MODELS[0])


def answered_after(server: ServerProcess, name: str) -> float:
    """Seconds until a model's answer of one token, whether it is loaded or not."""
    began = time.perf_counter()
    body = {"model": name, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    request = urllib.request.Request(
        f"{server.url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        answer.read()
    return round(time.perf_counter() - began, 3)


def holder(server: ServerProcess) -> psutil.Process:
    """The process with the model: the largest, for a standby has none."""
    return max(server.children(), key=lambda child: int(child.memory_info().rss))
