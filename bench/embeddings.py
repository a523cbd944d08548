"""What micro-batching gives embeddings: `python bench/embeddings.py [--rounds 5] [--quick]`.

all-MiniLM-L6-v2 over HTTP, one sentence of 5 to 12 words a request, in a closed loop: 64 clients of this server, one
client of this server, and 64 clients of `mlx_vlm.server`, which has the same model. Both servers stay loaded, have the
same BLAS, and are measured in turns; who is first changes from round to round. Each round's sentences are new, and the
same for all three. Ratios are taken within a round; the tables give medians (least to greatest). A first round warms
up and is not counted; in it both servers' vectors of 64 sentences are compared.

Targets: 5 times the sentences per second of one client, and 3 times those of mlx_vlm.server. Raw rows go to
bench/results/embeddings.json. Exit code 0 when both targets were met, else 2.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import SplitResult, urlsplit

import numpy as np
from lib.connection import Exchange, connect, http_request
from lib.hardware import this_machine
from lib.others import OthersWatch
from lib.pairs import spread
from lib.processes import BENCH, ServerProcess
from load import run_in_loop
from rich.console import Console
from rich.table import Table

from mlx_server.workers.parent.environment import child_environment

RESULTS = BENCH / "results" / "embeddings.json"
CLIENTS = 64
TARGETS = {"over_one_client": 5.0, "over_mlx_vlm": 3.0}
ALIKE = 0.9999
WORDS = """
the a this that every some man woman child teacher doctor river mountain city garden house train car book letter music
question answer summer winter morning evening small old new bright quiet heavy early late quickly slowly walks runs
reads writes sings sees finds keeps gives asks opens under over near behind with without before after
""".split()  # noqa: SIM905 - a list would take a page


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server answers, and what it calls the model."""

    url: SplitResult
    model: str


@dataclass(frozen=True, slots=True)
class Side:
    """One repetition: so many clients, so many requests, how fast. `others_cores` was busy with something else."""

    name: str
    clients: int
    requests: int
    seconds: float
    sentences_per_s: float
    p50_ms: float
    p95_ms: float
    others_cores: float


def sentences(count: int, seed: int) -> list[str]:
    """Distinct ones with high probability, of 5 to 12 words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(5, 12))) + "." for _ in range(count)]


async def ask(server: Server, texts: Sequence[str], clients: int) -> list[Exchange]:
    """One exchange for each text, in the texts' order. Every request must be answered."""
    waiting = iter(enumerate(texts))
    exchanges: dict[int, Exchange] = {}

    async def client() -> None:
        connection = await connect(server.url)
        for index, text in waiting:
            body = {"model": server.model, "input": text, "encoding_format": "float"}
            exchange = await connection.exchange(http_request("POST", server.url, "/v1/embeddings", body))
            if exchange.status != 200:
                raise RuntimeError(f"{server.url.netloc} answered {exchange.status}: {bytes(exchange.body[:500])!r}")
            exchanges[index] = exchange
            if not connection.usable:
                connection = await connect(server.url)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return [exchanges[index] for index in range(len(texts))]


def vectors_of(server: Server, texts: Sequence[str]) -> list[list[float]]:
    """What the server says, 8 texts at a time."""
    exchanges = run_in_loop(lambda: ask(server, texts, 8))
    return [json.loads(exchange.body)["data"][0]["embedding"] for exchange in exchanges]


def measure(name: str, server: Server, texts: Sequence[str], clients: int) -> Side:
    """One repetition of one side."""
    with OthersWatch() as others:
        began = perf_counter()
        exchanges = run_in_loop(lambda: ask(server, texts, clients))
        seconds = perf_counter() - began
    ordered = sorted(exchange.ended_s - exchange.started_s for exchange in exchanges)
    p50, p95 = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 for share in (0.5, 0.95))
    return Side(name, clients, len(texts), seconds, len(texts) / seconds, p50, p95, others.cores)


def least_cosine(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float:
    """Between vectors of the same texts."""
    a, b = np.array(one), np.array(other)
    return float((np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def measure_rounds(rounds: int, size: int, ours: Server, theirs: Server, say: Callable[[str], None]) -> list[Any]:
    """One row for each counted round: its three sides and their ratios."""
    rows = []
    for number in range(rounds + 1):
        texts = sentences(size * CLIENTS, seed=number)
        sides: list[tuple[str, Server, Sequence[str], int]] = [
            ("server, 64 clients", ours, texts, CLIENTS),
            ("server, one client", ours, texts[: size * 8], 1),
            ("mlx_vlm.server, 64 clients", theirs, texts[: size * 16], CLIENTS),
        ]
        turn = number % len(sides)
        found = {side[0]: measure(*side) for side in sides[turn:] + sides[:turn]}
        many, one, other = (found[side[0]].sentences_per_s for side in sides)
        row = {
            "sides": [asdict(side) for side in found.values()],
            "over_one_client": many / one,
            "over_mlx_vlm": many / other,
        }
        counted = "" if number else " (warm-up)"
        say(f"round {number}{counted}: {many:.0f}/s with 64 clients, {one:.1f}/s with one, mlx_vlm {other:.1f}/s")
        if number:
            rows.append(row)
    return rows


def report(rows: list[Any], alike: float, console: Console) -> bool:
    """Show the table; True when the targets were met."""
    table = Table("figure", "median (least to greatest)", "target")
    names = [side["name"] for side in rows[0]["sides"]]
    for name in sorted(names, reverse=True):
        of_name = [side for row in rows for side in row["sides"] if side["name"] == name]
        rate = spread([side["sentences_per_s"] for side in of_name])
        table.add_row(f"{name}: sentences/s", f"{rate.median:.1f} ({rate.low:.1f} to {rate.high:.1f})", "")
    met = alike > ALIKE
    for name, target in TARGETS.items():
        ratio = spread([row[name] for row in rows])
        met = met and ratio.median >= target
        table.add_row(name, f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})", f">= {target:g}")
    table.add_row("least cosine of both servers' vectors", f"{alike:.6f}", f"> {ALIKE}")
    table.add_row("others' cores at most", f"{max(s['others_cores'] for row in rows for s in row['sides']):.2f}", "")
    console.print(table)
    return met


def main() -> int:
    """Start both servers, measure, and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds")
    parser.add_argument("--quick", action="store_true", help="short rounds, to see that it works")
    parser.add_argument("--model", type=Path, help="folder of all-MiniLM-L6-v2 (default: from `mlx-server demo`)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the rows go")
    options = parser.parse_args()
    console = Console()
    machine = this_machine()
    folder = options.model or demo_folder()
    with (
        tempfile.TemporaryDirectory(prefix="mlx-server-bench-") as scratch,
        launch_ours(folder, Path(scratch)) as ours,
        launch_theirs(folder, Path(scratch)) as theirs,
    ):
        sides = Server(urlsplit(ours.url), folder.name), Server(urlsplit(theirs.url), str(folder))
        alike = least_cosine(*(vectors_of(side, sentences(CLIENTS, seed=-1)) for side in sides))
        rows = measure_rounds(options.rounds, 2 if options.quick else 8, *sides, console.print)
    met = report(rows, alike, console)
    facts = {"machine": asdict(machine), "command": sys.argv, "targets": TARGETS, "least_cosine": alike, "met": met}
    options.out.write_text(json.dumps({**facts, "rounds": rows}, indent=1) + "\n")
    return 0 if met else 2


def demo_folder() -> Path:
    """The embedding model's folder, fetched when needed."""
    from mlx_server.app.config.settings import default_cache_dir
    from mlx_server.app.demo.demo import ensure_demo_model
    from mlx_server.app.demo.models import MINILM

    return ensure_demo_model(default_cache_dir(), Console(stderr=True), source=MINILM)


def launch_ours(folder: Path, scratch: Path) -> ServerProcess:
    """This server; it preloads the BLAS in its worker by itself."""
    arguments = ["launch", "--model-type", "embeddings", "--model-path", str(folder)]
    return ServerProcess([sys.executable, "-m", "mlx_server.app", *arguments], scratch / "ours.log")


def launch_theirs(folder: Path, scratch: Path) -> ServerProcess:
    """mlx-vlm's server with the BLAS that our worker gets; it stays off the hub."""
    preload = child_environment().get("LD_PRELOAD")
    with_blas = ["env", *([f"LD_PRELOAD={preload}"] if preload else []), "HF_HUB_OFFLINE=1"]
    command = [*with_blas, sys.executable, "-m", "mlx_vlm.server", "--host", "127.0.0.1"]
    return ServerProcess([*command, "--embedding-model", str(folder)], scratch / "theirs.log", ready_path="/health")


if __name__ == "__main__":
    sys.exit(main())
