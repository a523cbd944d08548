"""What a Ray cluster costs: `python bench/cluster/replicas.py [--pairs 7] [--tokens 400] [--short]`.

Two replicas of the scripted backend as processes of the front end, and two on a Ray cluster of this machine, streamed
to the same 32 clients in turns, each of which gets a token every 5 ms: without a pace, whoever lags would send several
tokens in one event and win by it. Targets: at least 0.95 of the tokens a second, and at most 1.2 of the front end's
processor time for a token, medians over the pairs. `--short` shows that it runs. Raw rows go to
bench/results/ray_replicas.json. Exit code 0 when both targets were met, else 2.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.hardware import this_machine
from lib.pairs import Pair, Side, interleave, others_cores, spread
from lib.processes import BENCH, ServerProcess
from lib.scripted import CLIENTS, script
from load import LoadSpec, measure
from ray.cluster_utils import Cluster
from rich.console import Console

RESULTS = BENCH / "results" / "ray_replicas.json"
LAUNCH = (sys.executable, "-m", "mlx_server.app", "launch", "--model-type", "scripted", "--model-path", "scripted")
REPLICAS = 2
ROWS = ("--replicas", str(REPLICAS), "--max-concurrency", str(CLIENTS // REPLICAS), "--log-level", "warning")
NODE = {"object_store_memory": 80 << 20, "include_dashboard": False, "resources": {"mlx_memory": 1 << 30}}
INTERVAL_S = 0.005
LEAST_TOKENS = 0.95
MOST_PROCESSOR = 1.2


def stats_of(server: ServerProcess) -> dict[str, Any]:
    """What a server tells of its queue."""
    with urllib.request.urlopen(f"{server.url}/queue/stats") as response:
        found: dict[str, Any] = json.load(response)["queue_stats"]
    return found


def wait_for_all(server: ServerProcess) -> None:
    """The first replica makes a server ready; the others follow."""
    while stats_of(server)["workers"] != {"ready": REPLICAS}:
        time.sleep(0.1)


def ask(server: ServerProcess, tokens: int) -> Side:
    """One timed repetition: two requests of each client."""
    before, _ = server.cpu_seconds()
    spec = LoadSpec(server.url, [script(tokens, INTERVAL_S)] * 2 * CLIENTS, tokens, clients=CLIENTS)
    summary = measure(spec).summary
    after, _ = server.cpu_seconds()
    return Side(summary.tokens, summary.tokens_per_s, {**asdict(summary), "front_cpu_s": after - before})


def processor_us(side: Side) -> float:
    """The front end's time for a token; without the workers, and without what talks to Ray."""
    return float(side.detail["front_cpu_s"] / side.tokens * 1e6)


def figures(pairs: list[Pair]) -> dict[str, Any]:
    """The two ratios, and what they were made of."""
    processor = [processor_us(pair.server) / processor_us(pair.baseline) for pair in pairs]
    return {
        "tokens_per_s": {
            "processes": asdict(spread([pair.baseline.tokens_per_s for pair in pairs])),
            "ray": asdict(spread([pair.server.tokens_per_s for pair in pairs])),
        },
        "tokens_ratio": asdict(spread([pair.ratio for pair in pairs])),
        "front_end_us_per_token": {
            "processes": median(processor_us(pair.baseline) for pair in pairs),
            "ray": median(processor_us(pair.server) for pair in pairs),
        },
        "front_end_ratio": asdict(spread(processor)),
        "events_per_token": [
            sum(side.detail["content_events"] for side in sides) / sum(side.tokens for side in sides)
            for sides in ([pair.baseline for pair in pairs], [pair.server for pair in pairs])
        ],
        "others_cores": others_cores(pairs),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--short", action="store_true", help="two pairs of 100 tokens, and nothing is written")
    given, console, machine = parser.parse_args(), Console(), this_machine()
    pairs, tokens = (2, 100) if given.short else (given.pairs, given.tokens)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlx-server-bench-")))
        cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": REPLICAS})
        stack.callback(cluster.head_node.kill_all_processes, check_alive=False, allow_graceful=False)
        os.environ["RAY_ADDRESS"] = cluster.address
        words = [*LAUNCH, *ROWS]
        local = stack.enter_context(ServerProcess(words, scratch / "processes.log"))
        remote = stack.enter_context(ServerProcess([*words, "--cluster", "auto"], scratch / "ray.log"))
        for server in (local, remote):
            wait_for_all(server)
            ask(server, tokens // 10)  # warms up
        measured = interleave(
            pairs,
            lambda _: ask(local, tokens),
            lambda _: ask(remote, tokens),
            lambda pair: console.print(
                f"{pair.baseline.tokens_per_s:.0f} tokens/s, on Ray {pair.server.tokens_per_s:.0f}"
            ),
        )
    found = figures(measured)
    console.print_json(data=found)
    if not given.short:
        rows = [[pair.baseline.detail, pair.server.detail] for pair in measured]
        RESULTS.write_text(json.dumps({"machine": asdict(machine), **found, "rows": rows}, indent=1) + "\n")
    good = found["tokens_ratio"]["median"] >= LEAST_TOKENS and found["front_end_ratio"]["median"] <= MOST_PROCESSOR
    sys.exit(0 if good or given.short else 2)


if __name__ == "__main__":
    main()
