"""Whether four replicas together know as much as one with four times the cache: `python bench/replicas/affinity.py
--before CHECKOUT [--rounds 2] [--rate 4]`.

50 conversations of a random llama, mixed by chance, open loop: on one worker with four times the cache, on four
replicas, and on four replicas of a checkout that gives requests to whoever has most free rows. One server at a time, in
turns, each freshly started. Raw rows go to bench/results/replicas.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
import urllib.request
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.connection import connect, http_request
from lib.hardware import this_machine
from lib.peer_servers import earlier, ours
from lib.processes import BENCH, ServerProcess
from lib.prompts import prompt_texts
from load import run_in_loop
from make_tiny import make_tiny
from replicas.trace import Arrival, make_trace
from rich.console import Console
from run import demo_folder

RESULTS = BENCH / "results" / "replicas.json"
SIZES = {"hidden_size": 128, "num_hidden_layers": 3, "intermediate_size": 384}
REPLICAS, ROWS = 4, 2
CACHE_MB = 6
CONVERSATIONS, TURNS, TOKENS = 50, 6, 16
SENTENCES = 8
"""Of a turn: some 250 tokens."""


def messages(arrival: Arrival) -> list[dict[str, str]]:
    """A conversation up to a turn; what the model is taken to have said is short and always the same."""
    first = arrival.conversation * TURNS * SENTENCES
    said = prompt_texts(first + TURNS * SENTENCES)[first:]
    turns = [" ".join(said[turn * SENTENCES :][:SENTENCES]) for turn in range(arrival.turn + 1)]
    answer = {"role": "assistant", "content": "Once upon a time."}
    return [one for turn in turns for one in ({"role": "user", "content": turn}, answer)][:-1]


async def play(url: str, trace: list[Arrival]) -> list[dict[str, Any]]:
    """Send each turn when it is due; a row for each, with times in seconds."""
    target = urlsplit(url)
    bodies = [
        {"messages": messages(one), "max_tokens": TOKENS, "temperature": 0, "stream": True}
        | {"stream_options": {"include_usage": True}}
        for one in trace
    ]
    requests = [http_request("POST", target, f"{target.path}/chat/completions", body) for body in bodies]
    start = perf_counter() + 0.5

    async def send(arrival: Arrival, request: bytes) -> dict[str, Any]:
        due = start + arrival.at_s
        await asyncio.sleep(due - perf_counter())
        connection = await connect(target)
        exchange = await connection.exchange(request, due)
        connection.close()
        first = exchange.read_times_s[0] - due if exchange.read_times_s else None
        return {
            **asdict(arrival),
            "outcome": exchange.outcome,
            "first_token_s": first,
            "cached": exchange.tally.cached_tokens() or 0,
            "prompt": exchange.tally.prompt_tokens() or 0,
        }

    return list(await asyncio.gather(*map(send, trace, requests)))


def wait_for_all(server: ServerProcess, replicas: int) -> None:
    """Until so many workers take work."""
    ready: dict[str, int] = {}
    while ready != {"ready": replicas}:
        time.sleep(0.2)
        with urllib.request.urlopen(f"{server.url}/queue/stats") as answer:
            ready = json.load(answer)["queue_stats"]["workers"]


def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What a run comes to: the share of prompts' tokens that were known, and the times until first tokens."""
    waits = sorted(row["first_token_s"] for row in rows if row["outcome"] == "ok")
    return {
        "ok": len(waits),
        "hit_rate": sum(row["cached"] for row in rows) / sum(row["prompt"] for row in rows),
        "first_token_p50_s": waits[len(waits) // 2],
        "first_token_p95_s": waits[int(len(waits) * 0.95)],
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="a checkout without prefix affinity")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rate", type=float, default=4.0, help="turns a second")
    given, console, machine = parser.parse_args(), Console(), this_machine()
    with tempfile.TemporaryDirectory(prefix="mlx-server-bench-") as folder:
        scratch = Path(folder)
        model = make_tiny(demo_folder([sys.executable, "-m", "mlx_server.app"]), scratch / "llama", **SIZES)
        cache = ("--prefix-cache-mb", str(CACHE_MB), "--speculate", "off")
        several = (*cache, "--replicas", str(REPLICAS))
        servers = {
            "one, four times the cache": ours(model, REPLICAS * ROWS, *cache, "--prefix-cache-mb", str(4 * CACHE_MB)),
            "prefix affinity": ours(model, ROWS, *several),
            "least loaded": earlier(model, ROWS, given.before, *several),
        }
        runs = []
        for round_ in range(given.rounds):
            trace = make_trace(CONVERSATIONS, TURNS, given.rate, seed=round_)
            for name, command in servers.items():
                with ServerProcess(command.words, scratch / "server.log") as server:
                    wait_for_all(server, REPLICAS if "--replicas" in command.words else 1)
                    rows = run_in_loop(lambda url=server.url, trace=trace: play(url, trace))
                runs.append({"policy": name, "round": round_, **figures(rows), "rows": rows})
                console.print_json(data={key: value for key, value in runs[-1].items() if key != "rows"})
    found = {
        "machine": asdict(machine),
        "sizes": SIZES,
        "rate": given.rate,
        "hit_rate_of_one_ratio": ratio(runs, "hit_rate", "one, four times the cache"),
        "p95_of_least_loaded_ratio": ratio(runs, "first_token_p95_s", "least loaded"),
    }
    console.print_json(data=found)
    RESULTS.write_text(json.dumps({**found, "runs": runs}) + "\n")


def ratio(runs: list[dict[str, Any]], figure: str, other: str) -> list[float]:
    """In each round, the figure of prefix affinity over that of the other policy."""
    values = {policy: [run[figure] for run in runs if run["policy"] == policy] for policy in ("prefix affinity", other)}
    return [own / theirs for own, theirs in zip(values["prefix affinity"], values[other], strict=True)]


if __name__ == "__main__":
    main()
