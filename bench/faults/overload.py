"""Twenty times what a server can do: how soon it refuses, whether its Retry-After holds, what it still serves.

The clients are a process of their own (storm.py), and `/health` is asked from this one. On a machine of two cores they
take from the server what they use, so the figures say how much of a core each process had.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from lib.connection import Connection, connect, http_request
from lib.processes import ServerProcess
from lib.summary import percentiles_ms
from rich.console import Console
from storm import Ask, Order

TIMES = 20
ROWS, QUEUE = 16, 32
TOKENS = 48
AFTER_S, AFTER_TIMES = 20.0, 3
"""How long after the storm clients still come back, and at most so many times as long as it lasted."""

HEALTH_EVERY_S = 0.05
REFUSED_MS, HEALTH_MS, KEPT, BACK = 50.0, 100.0, 0.9, 0.9
"""Targets: a refusal at the median, `/health` at the 99th percentile, of unloaded tokens/s, of those who come back."""

SCRIPT = json.dumps({"tokens": TOKENS, "interval_s": 0.01})
"""Half a second each on sixteen rows, whatever else takes the processor: the front end's own part."""

PROMPT = {"prompt": "Count from NUMBER on, and say what you see.", "temperature": 0}
REAL_TOKENS = 12
"""So few that a real model, too, serves many in a minute."""


def overload(
    tiny: Path, real: Path, scratch: Path, seconds: float, console: Console, only: str = ""
) -> tuple[dict[str, Any], bool]:
    """Figures of the scripted backend, of a tiny model and of a real one, or of `only` some of these, and whether
    nothing was dishonest and the targets were met."""
    asked: dict[str, tuple[str, str, dict[str, Any]]] = {
        "scripted": ("scripted", "--model-type=scripted", {"prompt": SCRIPT, "max_tokens": TOKENS}),
        "SmolLM2": (str(real), "--model-type=lm", {**PROMPT, "max_tokens": REAL_TOKENS}),
        "tiny": (str(tiny), "--model-type=lm", {**PROMPT, "max_tokens": TOKENS}),
    }
    found = {}
    for name in [one for one in asked if not only or one in only.split(",")]:
        path, kind, body = asked[name]
        limits = (f"--max-concurrency={ROWS}", f"--queue-size={QUEUE}")
        launch = [sys.executable, "-m", "mlx_server.app", "launch", f"--model-path={path}", kind, *limits]
        with ServerProcess(launch, scratch / f"overload-{name}.log") as server:
            found[name] = measure(server, body, seconds, scratch)
        console.print(name, found[name])
    return found, all(figures["honest"] and figures["in_time"] for figures in found.values())


def measure(server: ServerProcess, body: Mapping[str, Any], seconds: float, scratch: Path) -> dict[str, Any]:
    """The unloaded rate with as many clients as rows, then the storm."""
    url = server.url.removesuffix("/v1")
    calm_s = max(1.0, seconds / 4)
    for seed in (1, 2):  # the first time warms up
        calm, calm_cores, _ = play(server, Order(url, body, calm_s, clients=ROWS, seed=seed), scratch)
    served = [ask for ask in calm if ask.outcome == "ok"]
    rate = len(served) / calm_s
    patience_s = seconds + min(AFTER_S, AFTER_TIMES * seconds)
    order = Order(url, body, seconds, rate=TIMES * rate, patience_s=patience_s)
    asks, cores, health_s = play(server, order, scratch)
    refused = [ask for ask in asks if ask.outcome == "http_429"]
    back = [ask for ask in asks if ask.back]
    within, after = (Counter(ask.outcome for ask in back if (ask.due_s > seconds) == late) for late in (False, True))
    kept = tokens_per_s(asks, seconds) / tokens_per_s(calm, calm_s)
    figures = {
        "calm_requests_per_s": round(rate, 2),
        "outcomes": dict(Counter(ask.outcome for ask in asks)),
        "refused_ms": percentiles_ms([ask.took_s for ask in refused]),
        "late_ms": percentiles_ms([ask.late_s for ask in asks]),
        "without_retry_after": sum(ask.retry_after is None for ask in refused),
        "back_in_the_storm": dict(within),
        "back_after_it": dict(after),
        "kept": round(kept, 3),
        "health_ms": percentiles_ms(health_s),
        "cores_calm": calm_cores,
        "cores": cores,
    }
    figures["honest"] = set(figures["outcomes"]) <= {"ok", "http_429"} and not figures["without_retry_after"]
    figures["in_time"] = (
        figures["refused_ms"]["p50"] <= REFUSED_MS
        and figures["health_ms"]["p99"] <= HEALTH_MS
        and kept >= KEPT
        and all(came["ok"] >= BACK * came.total() for came in (within, after))
    )
    return figures


def tokens_per_s(asks: list[Ask], seconds: float) -> float:
    """Of the requests that ended well within `seconds`."""
    return sum(ask.tokens for ask in asks if ask.outcome == "ok" and ask.due_s + ask.took_s <= seconds) / seconds


def play(server: ServerProcess, order: Order, scratch: Path) -> tuple[list[Ask], dict[str, float], list[float]]:
    """What became of the requests, the cores that each process kept busy, and how long `/health` took each time."""
    ordered, printed = scratch / "order.json", scratch / "asks.json"
    ordered.write_text(json.dumps(asdict(order)))
    with printed.open("w") as out:
        storm = subprocess.Popen([sys.executable, str(Path(__file__).with_name("storm.py")), str(ordered)], stdout=out)
    workers = [child for child in server.children() if "mlx_server.workers" in child.cmdline()]
    watched = {
        "front end": psutil.Process(server.pid),
        "worker": max(workers, key=lambda child: sum(child.cpu_times()[:2])),  # the other is a standby
        "clients": psutil.Process(storm.pid),
    }
    before, began = busy_s(watched), time.perf_counter()
    health_s = asyncio.run(ask_health(server, order.seconds))
    took_s, after = time.perf_counter() - began, busy_s(watched)
    assert storm.wait() == 0
    cores = {name: round((after[name] - before[name]) / took_s, 2) for name in watched}
    return [Ask(**row) for row in json.loads(printed.read_text())], cores, health_s


def busy_s(processes: Mapping[str, psutil.Process]) -> dict[str, float]:
    """Seconds of processor time so far."""
    return {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}


async def ask_health(server: ServerProcess, seconds: float) -> list[float]:
    """The times of one request after the other, over a connection that is kept."""
    url, times = urlsplit(server.url), list[float]()
    request, connection = http_request("GET", url, "/health"), Connection()
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        if not connection.usable:
            connection = await connect(url)
        exchange = await connection.exchange(request)
        assert exchange.outcome == "ok", exchange
        times.append(time.perf_counter() - began)
        await asyncio.sleep(HEALTH_EVERY_S)
    connection.close()
    return times
