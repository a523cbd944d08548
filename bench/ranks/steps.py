"""What a step takes longer on several ranks: `python bench/ranks/steps.py [--ranks 2] [--clients 1 8] [--pairs 5]`.

Two servers of a random llama, one in one process, one on ranks of this machine, in turns; a step is the median gap
between two tokens. Beside it stand the processor's time for a token, on which other work on the machine tells less, the
bytes that a step exchanges, and the bare sums of as many bytes, measured before the pairs and after them. Raw rows go
to bench/results/ranks.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.hardware import this_machine
from lib.pairs import Pair, Side, interleave, others_cores
from lib.peer_servers import ours
from lib.processes import BENCH, ServerProcess, free_port
from lib.prompts import prompt_texts
from load import LoadSpec, measure
from make_tiny import make_tiny
from rich.console import Console
from run import demo_folder

RESULTS = BENCH / "results" / "ranks.json"
SIZES = {
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "intermediate_size": 1536,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}
SUMS = 2 * SIZES["num_hidden_layers"]
"""Of hidden states in a step, two for each layer."""

FLOAT_BYTES = 4
TOKENS = 32
BARE_STEPS = 60


def ask(server: ServerProcess, pair: int, clients: int) -> Side:
    """One timed repetition; each pair has questions of its own."""
    prompts = prompt_texts(2 * clients, pair * 2 * clients)
    _, before = server.cpu_seconds()
    summary = measure(LoadSpec(server.url, prompts, TOKENS, clients=clients)).summary
    _, after = server.cpu_seconds()
    return Side(summary.tokens, summary.tokens_per_s, {**asdict(summary), "workers_cpu_s": after - before})


def step_ms(side: Side) -> float:
    """The median gap between two tokens of an answer."""
    return float(side.detail["itl_ms"]["p50"])


def processor_ms(side: Side) -> float:
    """What all processes of the model take of the processor for a token."""
    return float(1000 * side.detail["workers_cpu_s"] / side.tokens)


def bare_ms(ranks: int, rows: int, scratch: Path) -> float:
    """The median time of a step's sums alone, for so many rows."""
    hosts = scratch / "ring.json"
    hosts.write_text(json.dumps([[f"127.0.0.1:{free_port()}"] for _ in range(ranks)]))
    words = [sys.executable, str(BENCH / "ranks" / "bare_sums.py"), str(SUMS), str(rows * SIZES["hidden_size"])]
    processes = [
        subprocess.Popen(
            [*words, str(BARE_STEPS)],
            env=os.environ | {"MLX_RANK": str(rank), "MLX_HOSTFILE": str(hosts)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for rank in range(ranks)
    ]
    printed = [process.communicate()[0] for process in processes]
    return 1000 * median(json.loads(printed[0]))


def figures(pairs: list[Pair], bare: list[float], ranks: int, rows: int) -> dict[str, Any]:
    """A row of the table, and what it was made of. Times are in milliseconds, bytes those of a rank's own numbers."""
    added = [step_ms(pair.server) - step_ms(pair.baseline) for pair in pairs]
    return {
        "ranks": ranks,
        "rows": rows,
        "one_process_ms": median(step_ms(pair.baseline) for pair in pairs),
        "added_ms": median(added),
        "added_from_to_ms": [min(added), max(added)],
        "processor_ms_of_a_token": [
            median(processor_ms(side) for side in sides)
            for sides in ([pair.baseline for pair in pairs], [pair.server for pair in pairs])
        ],
        "exchanged_bytes": SUMS * rows * SIZES["hidden_size"] * FLOAT_BYTES + rows * FLOAT_BYTES,
        "bare_sums_ms": bare,
        "others_cores": others_cores(pairs),
        "pairs": [[pair.baseline.detail["itl_ms"], pair.server.detail["itl_ms"]] for pair in pairs],
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--pairs", type=int, default=5)
    given, console, machine = parser.parse_args(), Console(), this_machine()
    with tempfile.TemporaryDirectory(prefix="mlx-server-bench-") as folder:
        scratch = Path(folder)
        model = make_tiny(demo_folder([sys.executable, "-m", "mlx_server.app"]), scratch / "llama", **SIZES)
        hosts = scratch / "hosts.json"
        hosts.write_text(json.dumps([{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}] * given.ranks))
        words = ours(model, max(given.clients), "--speculate", "off").words
        rows = []
        with (
            ServerProcess(words, scratch / "one.log") as one,
            ServerProcess([*words, "--hosts", str(hosts)], scratch / "ranks.log") as spread,
        ):
            for clients in given.clients:
                for server in (one, spread):
                    ask(server, given.pairs, clients)  # warms up
                bare = [bare_ms(given.ranks, clients, scratch)]
                pairs = interleave(
                    given.pairs,
                    lambda pair, clients=clients: ask(one, pair, clients),
                    lambda pair, clients=clients: ask(spread, pair, clients),
                    lambda pair: console.print(f"{step_ms(pair.baseline):.2f} ms, ranks {step_ms(pair.server):.2f} ms"),
                )
                bare.append(bare_ms(given.ranks, clients, scratch))
                rows.append(figures(pairs, bare, given.ranks, clients))
                console.print_json(data={name: value for name, value in rows[-1].items() if name != "pairs"})
    RESULTS.write_text(json.dumps({"machine": asdict(machine), "sizes": SIZES, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
