"""A long prompt beside streams: `python bench/prefill/arrival.py --against CHECKOUT [--pairs 5] [--tiny]`.

Two servers with the same model, in turns: this one, and another checkout's with an environment in its .venv. Four
streams run until a prompt of 2,000 tokens is answered: how long its first token takes, as a share of the other side's,
and the 95th percentile of the streams' gaps meanwhile, over their median before. A first round warms up, with 500
tokens. A round takes what both prompts take and some ten seconds. Raw rows go to bench/results/arrival.json.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.hardware import this_machine
from lib.pairs import Spread, spread
from lib.peer_scenarios import Measured, arrival, watched
from lib.peer_servers import OURS, Running, earlier, ours
from lib.processes import BENCH
from rich.console import Console
from rich.table import Table
from run import demo_folder, leave, tiny_folder

RESULTS = BENCH / "results" / "arrival.json"
ROWS = 8
SHARE, GAP = 0.6, 3.0
"""What is asked for: of the time to the first token, and of the gap in medians."""


def shares(rows: list[Measured]) -> list[float]:
    """Of each pair, this server's time to the long prompt's first token over the other's."""
    first = {(row.server == OURS, row.round): row.detail["long_ttft_s"] for row in rows}
    return [took / first[False, number] for (own, number), took in first.items() if own]


def table(rows: list[Measured]) -> Table:
    """Medians, least to greatest."""
    shown = Table("figure", "measured", "target")
    shown.add_row("first token over before", words(spread(shares(rows))), f"<= {SHARE:g}")
    for server in dict.fromkeys(row.server for row in rows):
        own = [row for row in rows if row.server == server]
        shown.add_row(f"{server}: p95 gap over the median", words(spread([row.value for row in own])), f"<= {GAP:g}")
        shown.add_row(f"{server}: first token, s", words(spread([row.detail["long_ttft_s"] for row in own])), "")
        shown.add_row(f"{server}: others' cores", f"{max(row.others_cores for row in own):.2f}", "")
    return shown


def words(found: Spread) -> str:
    """A spread for people."""
    return f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"


def main() -> int:
    """Measure, print a table, keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--against", type=Path, required=True, help="another checkout, with an environment in its .venv"
    )
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="a tiny random llama, whose steps cost next to nothing")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, leave)
    rows: list[Measured] = []
    console = Console(soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="mlx-server-bench-") as scratch:
        folder = demo_folder([sys.executable, "-m", "mlx_server.app"])
        folder = tiny_folder(folder, Path(scratch, "tiny")) if given.tiny else folder
        servers = [ours(folder, ROWS), earlier(folder, ROWS, given.against)]
        with Running(servers, Path(scratch)) as running:
            for number in range(given.pairs + 1):  # the first one warms up
                for peer in running.peers if number % 2 else reversed(running.peers):
                    row = watched("arrival", peer, number, partial(arrival, peer, number))
                    took = row.detail["long_ttft_s"]
                    console.print(f"{peer.name}: first token {took:.2f} s, p95 gap {row.value:.2f}", highlight=False)
                    if number:
                        rows.append(row)
    console.print(table(rows))
    target = RESULTS.with_stem("arrival_tiny") if given.tiny else RESULTS
    raw = {"machine": asdict(this_machine()), "command": " ".join(["python", *sys.argv])}
    target.write_text(json.dumps({**raw, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    slow = spread([row.value for row in rows if row.server == OURS]).median
    return 0 if spread(shares(rows)).median <= SHARE and slow <= GAP else 2


if __name__ == "__main__":
    sys.exit(main())
