"""What guesses save: `python bench/speculation/grounded.py --against CHECKOUT [--pairs 4] [--clients 1 8] [--tiny]`.

Two servers with the same model, in turns: this one, and another checkout's with an environment in its .venv (without
`--against`, this one with `--speculate off`). Grounded work repeats what it is given: a file with one change, facts as
JSON, a quotation, a second change of a file that was written before; schemas leave few choices; prose has nothing to
copy. Answers are greedy and must be equal, apart from rounding: how many are is counted. Each pair has prompts of its
own, with as many requests of each kind as there are clients, five at least. Raw rows go to
bench/results/grounded.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.grounded_work import KINDS, Body, requests
from lib.hardware import this_machine
from lib.others import OthersWatch
from lib.pairs import spread
from lib.peer_servers import Command, Peer, Running, earlier, ours
from lib.processes import BENCH
from rich.console import Console
from rich.table import Table
from run import demo_folder, tiny_folder

RESULTS = BENCH / "results" / "grounded.json"
SERVER = [sys.executable, "-m", "mlx_server.app"]
LEAST_REQUESTS = 5
"""Of each kind in a pair."""

SCHEMAS = 15
"""Documents of as many schemas in a pair."""


@dataclass(frozen=True, slots=True)
class Answers:
    """One side's answers to the requests of one kind in one pair."""

    server: str
    kind: str
    clients: int
    pair: int
    seconds: float
    tokens: int
    accepted: int
    rejected: int
    texts: list[str]
    others_cores: float


def ask(client: httpx.Client, peer: Peer, kind: str, clients: int, pair: int) -> Answers:
    """A closed loop of so many clients."""
    count = SCHEMAS if kind == "schemas" else max(LEAST_REQUESTS, clients)
    bodies = requests(kind, pair * count, count)

    def one(body: Body) -> tuple[str, dict[str, Any]]:
        answer = client.post(f"{peer.url}/chat/completions", json=body).raise_for_status().json()
        return answer["choices"][0]["message"]["content"], answer["usage"]

    with OthersWatch() as watch, ThreadPoolExecutor(clients) as pool:
        began = perf_counter()
        found = list(pool.map(one, bodies))
        seconds = perf_counter() - began
    details = [usage["completion_tokens_details"] for _, usage in found]
    return Answers(
        peer.name,
        kind,
        clients,
        pair,
        seconds,
        sum(usage["completion_tokens"] for _, usage in found),
        sum(each.get("accepted_prediction_tokens", 0) for each in details),
        sum(each.get("rejected_prediction_tokens", 0) for each in details),
        [text for text, _ in found],
        watch.cores,
    )


def before(folder: Path, rows: int, checkout: Path | None) -> Command:
    """The other side."""
    if checkout is not None:
        return earlier(folder, rows, checkout)
    return Command("without", (*ours(folder, rows).words, "--speculate", "off"), None, "/health/ready")


def table(rows: list[Answers]) -> Table:
    """Ratios by kind and clients."""
    shown = Table("kind", "clients", "tokens/s over before (median, spread)", "proposals right", "answers equal")
    for clients in sorted({row.clients for row in rows}):
        for kind in KINDS:
            own = [row for row in rows if (row.kind, row.clients) == (kind, clients)]
            sides = [[row for row in own if (row.server == "mlx-server") is ours_] for ours_ in (True, False)]
            pairs = [(new, old) for new in sides[0] for old in sides[1] if new.pair == old.pair]
            if not pairs:
                continue
            ratio = spread([(new.tokens / new.seconds) / (old.tokens / old.seconds) for new, old in pairs])
            right, wrong = sum(row.accepted for row in sides[0]), sum(row.rejected for row in sides[0])
            same = [a == b for new, old in pairs for a, b in zip(new.texts, old.texts, strict=True)]
            share = f"{right} of {right + wrong}"
            shown.add_row(
                kind,
                str(clients),
                f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
                share,
                f"{sum(same)} of {len(same)}",
            )
    return shown


def main() -> None:
    """Measure, print a table, keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="another checkout, with an environment in its .venv")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--tiny", action="store_true", help="a tiny random llama, whose steps cost next to nothing")
    given = parser.parse_args()
    rows: list[Answers] = []
    console = Console(soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="mlx-server-bench-") as scratch, httpx.Client(timeout=3000) as client:
        folder = demo_folder(SERVER)
        folder = tiny_folder(folder, Path(scratch, "tiny")) if given.tiny else folder
        most = max(given.clients)
        with Running([ours(folder, most), before(folder, most, given.against)], Path(scratch)) as running:
            for clients in given.clients:
                for kind in given.kinds:
                    for pair in range(given.pairs + 1):  # the first one warms up
                        for peer in running.peers if pair % 2 else reversed(running.peers):
                            found = ask(client, peer, kind, clients, pair)
                            if pair:
                                rows.append(found)
                    console.print(f"{clients} clients, {kind}: done")
    console.print(table(rows))
    raw = {"machine": asdict(this_machine()), "command": " ".join(["python", *sys.argv])}
    target = RESULTS.with_stem("grounded_tiny") if given.tiny else RESULTS
    target.write_text(json.dumps({**raw, "rows": [asdict(row) for row in rows]}, indent=1))


if __name__ == "__main__":
    main()
