"""What the server costs a vision model: `python bench/vision.py [--pairs 5] [--clients 1,4,8]`.

pairs: tokens per second over HTTP against mlx-vlm's bare `BatchGenerator` (`vision_engine.py`) on the same distinct
pictures and prompts, in turns. Every answer has the same number of tokens on both sides.
once: several clients talk about the same few pictures over several turns; the server counts how often its vision
encoder had to look at one, which has to be once for each distinct picture.
The model is the trained one of the tests. Raw rows go to bench/results/vision.json.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from lib.hardware import this_machine
from lib.pairs import Pair, Side, interleave, others_cores, spread, token_difference
from lib.pictures import content, pictures
from lib.processes import BENCH, EngineProcess, ServerProcess
from load import LoadSpec, measure
from rich.console import Console
from rich.table import Table

from mlx_server.workers.parent.environment import child_environment

MODEL = BENCH.parent / "tests" / "shapes" / "model"
RESULTS = BENCH / "results" / "vision.json"
COMMAND = [sys.executable, "-m", "mlx_server.app", "launch", "--model-path", str(MODEL), "--model-type", "vlm"]
MAX_TOKENS = 48
REQUESTS = {1: 32, 4: 96, 8: 192}
TARGET = 0.8
DISTINCT, TURNS, CLIENTS = 4, 3, 8
Row = dict[str, Any]


def serve(clients: int, scratch: Path) -> ServerProcess:
    """A server with as many rows as clients."""
    log = scratch / f"server-{clients}.log"
    log.touch()
    return ServerProcess([*COMMAND, "--max-concurrency", str(clients)], log)


def measure_pairs(engine: EngineProcess, clients: int, count: int, scratch: Path, console: Console) -> list[Pair]:
    """Interleaved pairs at one number of clients; no picture is seen twice."""
    requests = REQUESTS.get(clients, 12 * clients)

    def bare(index: int) -> Side:
        answer = engine.ask("run", clients, requests, MAX_TOKENS, index * requests)
        return Side(answer["tokens"], answer["tokens_per_s"], answer)

    def over_http(first: int, most: int) -> Side:
        prompts = [content(*asked) for asked in pictures(most, first)]
        extra = {"ignore_eos": True}
        spec = LoadSpec(url=server.url, prompts=prompts, max_tokens=MAX_TOKENS, clients=clients, extra=extra)
        result = measure(spec)
        detail = {"summary": asdict(result.summary), "rows": [asdict(row) for row in result.rows]}
        return Side(result.summary.tokens, result.summary.tokens_per_s, detail)

    def show(pair: Pair) -> None:
        rates = f"bare {pair.baseline.tokens_per_s:.1f}, server {pair.server.tokens_per_s:.1f} tokens/s"
        console.print(f"{clients} clients: {rates}, ratio {pair.ratio:.3f}", highlight=False)

    with serve(clients, scratch) as server:
        engine.ask("calibrate", clients, MAX_TOKENS)
        over_http(1 << 20, 2 * clients)
        return interleave(count, bare, lambda index: over_http(index * requests, requests), show)


async def count_encodings(url: str) -> Row:
    """Clients that talk about the same pictures, turn after turn; what the server's metrics say then."""
    shared = [content(*asked) for asked in pictures(DISTINCT, first=1 << 21)]
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:

        async def talk(i: int) -> int:
            messages: list[Row] = []
            cached = 0
            for turn in range(TURNS):
                messages.append({"role": "user", "content": shared[(i + turn) % DISTINCT]})
                body = {"messages": messages, "max_tokens": 8, "temperature": 0}
                answer = await client.post("/v1/chat/completions", json=body)
                answer.raise_for_status()
                told = answer.json()
                cached += told["usage"]["prompt_tokens_details"]["cached_tokens"]
                messages.append({"role": "assistant", "content": told["choices"][0]["message"]["content"]})
            return cached

        cached = await asyncio.gather(*(talk(i) for i in range(CLIENTS)))
        metrics = (await client.get("/metrics")).text
    counts = {name: counter(metrics, name) for name in ("encoded", "cached")}
    return {"distinct": DISTINCT, "turns": TURNS, "clients": CLIENTS, "cached_tokens": sum(cached), **counts}


def counter(metrics: str, name: str) -> int:
    """The value of one of the media counters."""
    lines = [line for line in metrics.splitlines() if line.startswith(f"mlx_server_media_{name}_total")]
    return int(float(lines[0].split()[-1]))


def main() -> int:
    """Measure, print a table, keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--clients", default="1,4,8")
    options = parser.parse_args()
    console, table = Console(), Table("what", "result", "asked")
    raw: Row = {"machine": asdict(this_machine()), "command": " ".join(["python", *sys.argv]), "pairs": {}}
    met = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        log = scratch / "engine.log"
        with EngineProcess(MODEL, child_environment(), log, script="vision_engine.py") as engine:
            raw["engine"] = engine.facts
            for clients in map(int, options.clients.split(",")):
                pairs = measure_pairs(engine, clients, options.pairs, scratch, console)
                raw["pairs"][clients] = [asdict(pair) for pair in pairs]
                ratio = spread([pair.ratio for pair in pairs])
                met.append(ratio.median >= TARGET and token_difference(pairs) == 0)
                found = f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
                table.add_row(
                    f"{clients} clients: tokens/s, server over bare",
                    f"{found}; others took {others_cores(pairs):.2f} cores",
                    f">= {TARGET}",
                )
        with serve(CLIENTS, scratch) as server:
            url = urlsplit(server.url)
            raw["once"] = once = asyncio.run(count_encodings(f"{url.scheme}://{url.netloc}"))
        met.append(once["encoded"] == DISTINCT)
        talk = f"{CLIENTS} clients, {TURNS} turns, {DISTINCT} distinct pictures: encodings"
        table.add_row(talk, f"{once['encoded']} (and {once['cached']} known)", str(DISTINCT))
    RESULTS.write_text(json.dumps(raw, indent=1))
    console.print(table)
    return 0 if all(met) else 2


if __name__ == "__main__":
    sys.exit(main())
