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
"""Between two rounds: the time in which a standby is made, and no worker dies in a row."""

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
    times: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in commands} for kind in ("restart", "switch")}
    named = [f"--model={name}={model}" for name in MODELS]
    arguments = {"restart": [f"--model-path={model}"], "switch": [*named, "--max-models=1"]}
    for kind, by_server in times.items():
        with contextlib.ExitStack() as stack:
            servers = {
                name: stack.enter_context(ServerProcess([*command, *arguments[kind]], scratch / f"{kind}-{name}.log"))
                for name, command in commands.items()
            }
            for number in range(-1, rounds):
                for name, server in servers.items():
                    time.sleep(REST_S / len(servers))
                    took = timed(server, kind, MODELS[number % 2])
                    if number >= 0:
                        by_server[name].append(round(took, 3))
    medians = {kind: {name: median(each) for name, each in found.items()} for kind, found in times.items()}
    figures = {"medians_s": medians, "seconds": times}
    base = "against" if against is not None else "without"
    console.print(medians, {kind: round(each["standby"] / each[base], 3) for kind, each in medians.items()})
    restart, switch = medians["restart"], medians["switch"]
    good = restart["standby"] < RESTARTED_S and restart["standby"] <= RESTARTED * restart[base]
    return figures, good and switch["standby"] <= SWITCHED * switch[base]


def timed(server: ServerProcess, kind: str, name: str) -> float:
    """Seconds until an answer of one token, of a model whose worker was just killed, or that was not loaded."""
    if kind == "restart":
        holder(server).kill()
    began = time.perf_counter()
    body = {"model": name, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    request = urllib.request.Request(
        f"{server.url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        answer.read()
    return time.perf_counter() - began


def holder(server: ServerProcess) -> psutil.Process:
    """The process with the model: the largest, for a standby has none."""
    return max(server.children(), key=lambda child: int(child.memory_info().rss))
