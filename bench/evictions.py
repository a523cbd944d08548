"""Three models that don't fit together, and clients that want them all: `python bench/evictions.py [--evictions 50]`.

SmolLM2, all-MiniLM-L6-v2 and a tiny llama are served by one server with a memory limit that the largest fills nearly
alone. Eight clients ask for one of them after the other, by chance, so that the server unloads and loads all the time.
Workers' memory is sampled meanwhile, and the front end's before and after. Then a model that is loaded is asked a
hundred times, and the registry's write-ahead log tells what was written for it.

Targets: at least as many evictions as asked for; no request failed; workers never hold more than the limit and a tenth;
no worker is left at the end, and the front end has grown by 20 MB at most; fewer writes to the registry than a tenth of
the requests. Raw rows go to bench/results/evictions.json. Exit code 0 when all targets were met, else 2.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import psutil
from embeddings import demo_folder as embedding_folder
from lib.connection import Exchange, connect, http_request
from lib.hardware import this_machine
from lib.others import OthersWatch
from lib.processes import BENCH, ServerProcess
from load import run_in_loop
from rich.console import Console
from rich.table import Table
from run import demo_folder, tiny_folder

CLIENTS = 8
SAMPLE_S = 0.1
MARGIN = 1.1
GROWTH_BYTES = 20e6
WARM_REQUESTS = 100
MODELS = ("smollm2", "minilm", "tiny")
LONGEST_S = 1800.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: `at_s` is when it was sent."""

    model: str
    status: int | None
    at_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Sample:
    """The workers' resident memory, all together, at a moment of the run."""

    at_s: float
    workers_bytes: int


def request_of(server: ServerProcess, model: str) -> bytes:
    """A short request that the model answers."""
    url = urlsplit(server.url)
    if model == "minilm":
        return http_request("POST", url, "/v1/embeddings", {"model": model, "input": "A cat sleeps."})
    body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4, "temperature": 0}
    return http_request("POST", url, "/v1/chat/completions", body)


async def ask(server: ServerProcess, model: str) -> Exchange:
    """One request on a connection of its own."""
    connection = await connect(urlsplit(server.url))
    exchange = await connection.exchange(request_of(server, model))
    connection.close()
    return exchange


async def get(server: ServerProcess, path: str) -> Any:
    """A JSON answer."""
    connection = await connect(urlsplit(server.url))
    exchange = await connection.exchange(http_request("GET", urlsplit(server.url), path))
    connection.close()
    return json.loads(exchange.body)


async def shift(server: ServerProcess, evictions: int) -> tuple[list[Outcome], list[Sample], int]:
    """Requests until there were so many evictions, and what the workers held meanwhile."""
    began = perf_counter()
    outcomes: list[Outcome] = []
    samples: list[Sample] = []
    done = asyncio.Event()

    async def client(number: int) -> None:
        rng = random.Random(number)
        while not done.is_set():
            model, sent = rng.choice(MODELS), perf_counter()
            exchange = await ask(server, model)
            now = perf_counter()
            outcomes.append(Outcome(model, exchange.status, round(sent - began, 3), round(now - sent, 3)))

    clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
    while (seen := count_evictions(server)) < evictions and perf_counter() - began < LONGEST_S:
        await asyncio.sleep(SAMPLE_S)
        samples.append(Sample(round(perf_counter() - began, 2), workers_bytes(server)))
    done.set()
    await asyncio.gather(*clients)
    return outcomes, samples, seen


def count_evictions(server: ServerProcess) -> int:
    """How often a model was unloaded so far, by the log."""
    return server.log.read_text().count(": unloading")


def workers_bytes(server: ServerProcess) -> int:
    """Resident memory of all that the front end has started."""
    total = 0
    for child in server.children():
        try:
            total += child.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


async def warm_writes(server: ServerProcess, registry: Path) -> int:
    """How often the registry's log was written to while a loaded model was asked a hundred times."""
    await ask(server, "tiny")
    log, writes = registry.with_name(f"{registry.name}-wal"), 0
    before = log.stat().st_mtime_ns
    for _ in range(WARM_REQUESTS):
        await ask(server, "tiny")
        if (now := log.stat().st_mtime_ns) != before:
            before, writes = now, writes + 1
    return writes


async def limit_of(server: ServerProcess) -> int:
    """The ledger's limit, in bytes."""
    status = await get(server, "/v1/manager/status")
    return int(status["system_status"]["memory_limit_gb"] * 2**30)


def table_of(figures: dict[str, Any]) -> Table:
    """The figures for people."""
    table = Table("figure", "measured", "target", "met")
    for name, (value, target, met) in figures.items():
        table.add_row(name, value, target, "yes" if met else "[bold red]no[/]")
    return table


def launch(folders: dict[str, Path], limit_gb: float, scratch: Path) -> ServerProcess:
    """The server with three models, and room for the largest."""
    types = {"minilm": "embeddings"}
    tables = [
        f'[models.{name}]\npath = "{folder}"\ntype = "{types.get(name, "lm")}"\nmax_concurrency = 4\n'
        for name, folder in folders.items()
    ]
    config = scratch / "models.toml"
    config.write_text("\n".join(tables))
    command = [sys.executable, "-m", "mlx_server.app", "launch", "--config", str(config)]
    flags = ["--memory-limit", str(limit_gb), "--data-dir", str(scratch / "data"), "--prefix-cache-mb", "16"]
    return ServerProcess([*command, *flags], scratch / "server.log")


def main() -> int:
    """Start the server, have it load and unload, keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evictions", type=int, default=50, help="so many are forced")
    parser.add_argument("--limit-gb", type=float, default=1.6, help="the memory that models may have together")
    parser.add_argument("--out", type=Path, default=BENCH / "results" / "evictions.json", help="where the rows go")
    options = parser.parse_args()
    machine = this_machine()
    smollm2 = demo_folder([sys.executable, "-m", "mlx_server.app"])
    with tempfile.TemporaryDirectory(prefix="mlx-server-bench-") as name, OthersWatch() as others:
        scratch = Path(name)
        folders = {"smollm2": smollm2, "minilm": embedding_folder(), "tiny": tiny_folder(smollm2, scratch / "tiny")}
        with launch(folders, options.limit_gb, scratch) as server:
            run_in_loop(lambda: ask(server, "tiny"))
            limit, front_before = run_in_loop(lambda: limit_of(server)), server.rss_bytes()
            outcomes, samples, evictions = run_in_loop(lambda: shift(server, options.evictions))
            writes = run_in_loop(lambda: warm_writes(server, scratch / "data" / "registry.sqlite3"))
            run_in_loop(lambda: unload_all(server))
            left, front_after = workers_bytes(server), server.rss_bytes()
    statuses = Counter(outcome.status for outcome in outcomes)
    peak, grown = max(sample.workers_bytes for sample in samples), front_after - front_before
    figures = {
        "evictions": (str(evictions), f">= {options.evictions}", evictions >= options.evictions),
        "requests by status": (str(dict(statuses)), "all 200", set(statuses) == {200}),
        "workers' memory at most": (
            f"{peak / 1e9:.2f} GB",
            f"<= {limit * MARGIN / 1e9:.2f} GB",
            peak <= limit * MARGIN,
        ),
        "workers' memory at the end": (f"{left / 1e9:.2f} GB", "0", not left),
        "front end's growth": (f"{grown / 1e6:+.1f} MB", f"<= {GROWTH_BYTES / 1e6:.0f} MB", grown <= GROWTH_BYTES),
        f"registry writes in {WARM_REQUESTS} requests": (str(writes), "< 10", writes < WARM_REQUESTS / 10),
    }
    Console().print(table_of(figures))
    met = all(ok for *_, ok in figures.values())
    facts = {
        "machine": asdict(machine),
        "command": sys.argv,
        "met": met,
        "limit_bytes": limit,
        "others_cores": others.cores,
        "figures": {
            name: {"measured": value, "target": target, "met": ok} for name, (value, target, ok) in figures.items()
        },
    }
    rows = {"outcomes": [asdict(one) for one in outcomes], "samples": [asdict(one) for one in samples]}
    options.out.write_text(json.dumps({**facts, **rows}) + "\n")
    return 0 if met else 2


async def unload_all(server: ServerProcess) -> None:
    """Nothing is loaded after this."""
    url = urlsplit(server.url)
    for model in MODELS:
        connection = await connect(url)
        exchange = await connection.exchange(http_request("POST", url, f"/v1/models/{model}/unload", {}))
        if exchange.status != 200:
            raise RuntimeError(f"{model} was not unloaded: {bytes(exchange.body)!r}")
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
