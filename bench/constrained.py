"""What constraints and choices cost: `python bench/constrained.py [--only documents|neighbours|choices]`.

documents: requests with a schema each, of many kinds; every answer that stopped must be a valid document.
neighbours: the gap between tokens of 7 plain streams, beside an eighth that is plain or constrained, in turns.
choices: time to the first token of one choice and of eight, in turns.
Raw rows go to bench/results/constrained.json.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import httpx
from jsonschema import Draft202012Validator
from lib.hardware import this_machine
from lib.processes import BENCH, ServerProcess
from rich.console import Console
from rich.table import Table
from run import demo_folder, tiny_folder

sys.path.insert(0, str(BENCH.parent / "tests"))
from support.inputs.schemas import schemas

RESULTS = BENCH / "results" / "constrained.json"
COMMAND = [sys.executable, "-m", "mlx_server.app"]
QUESTION = "Describe a person, a shape and a day in a few words."
LONG = " ".join(f"Item {i} is on shelf {i * 7 % 31}." for i in range(60))
MANY = {
    "type": "object",
    "additionalProperties": False,
    "properties": {f"f{i}": {"type": "string", "maxLength": 8} for i in range(40)},
}
MANY["required"] = list(MANY["properties"])  # type: ignore[call-overload]
ROWS = 8
Row = dict[str, Any]


def body(question: str, **more: Any) -> Row:
    return {"messages": [{"role": "user", "content": question}], **more}


async def stream(client: httpx.AsyncClient, request: Row) -> list[float]:
    """When each text came, in seconds after the request was sent."""
    began, times = perf_counter(), []
    async with client.stream("POST", "/v1/chat/completions", json={**request, "stream": True}) as response:
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            if line.startswith("data: {") and '"content":"' in line and '"role"' not in line:
                times.append(perf_counter() - began)
    return times


async def documents(client: httpx.AsyncClient, count: int) -> list[Row]:
    """One row for each constrained request."""
    kinds, gate = sorted(schemas().items()), asyncio.Semaphore(ROWS)

    async def ask(i: int) -> Row:
        name, schema = kinds[i % len(kinds)]
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        how = {"temperature": 0.7, "seed": i, "max_tokens": 300, "response_format": form}
        async with gate:
            answer = await client.post("/v1/chat/completions", json=body(QUESTION, **how))
        answer.raise_for_status()
        choice = answer.json()["choices"][0]
        row = {"schema": name, "finish": choice["finish_reason"], "content": choice["message"]["content"]}
        if row["finish"] == "stop":
            Draft202012Validator(schema).validate(json.loads(row["content"]))
        return row

    return await asyncio.gather(*(ask(i) for i in range(count)))


async def neighbours(client: httpx.AsyncClient, pairs: int) -> list[Row]:
    """One row for each pair: the plain streams' median gap beside a plain and beside a constrained request."""
    form = {"response_format": {"type": "json_schema", "json_schema": {"name": "many", "schema": MANY}}}
    how = {"temperature": 0, "max_tokens": 48, "ignore_eos": True}

    async def gap(eighth: Row) -> float:
        plain = [stream(client, body(f"Tell story number {i}.", **how)) for i in range(ROWS - 1)]
        *streams, _ = await asyncio.gather(*plain, stream(client, body(QUESTION, **eighth)))
        # The first gaps hold the others' prefill, and the masks' warm-up.
        return median(b - a for times in streams for a, b in pairwise(times[8:]))

    rows = []
    for i in range(pairs + 1):
        sides = [("plain", how), ("constrained", {"temperature": 0, "max_tokens": 48, **form})]
        found = {name: await gap(eighth) for name, eighth in (sides if i % 2 else sides[::-1])}
        if i:  # the first pair warms up
            rows.append({**found, "ratio": found["constrained"] / found["plain"]})
    return rows


async def choices(client: httpx.AsyncClient, pairs: int) -> list[Row]:
    """One row for each pair: time to the first token with n=1 and n=8, over a prompt of about 600 tokens."""
    rows = []
    for i in range(pairs + 1):
        sides = (1, ROWS) if i % 2 else (ROWS, 1)
        first = {}
        for n in sides:
            times = await stream(client, body(f"{i} {LONG}", temperature=1, seed=i, max_tokens=4, n=n))
            first[n] = times[0]
        if i:
            rows.append({"n=1": first[1], "n=8": first[ROWS], "ratio": first[ROWS] / first[1]})
    return rows


def with_server(folder: Path, scratch: Path, work: Callable[[httpx.AsyncClient], Awaitable[list[Row]]]) -> list[Row]:
    """What `work` finds out with a server of its own."""
    log = scratch / f"{folder.name}.log"
    log.touch()
    arguments = ["launch", "--model-path", str(folder), "--max-concurrency", str(ROWS), "--queue-timeout", "3000"]
    with ServerProcess([*COMMAND, *arguments], log) as server:

        async def run() -> list[Row]:
            async with httpx.AsyncClient(base_url=server.url.removesuffix("/v1"), timeout=3000) as client:
                return await work(client)

        return asyncio.run(run())


def main() -> None:
    """Measure, print a table, keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("documents", "neighbours", "choices"), action="append")
    parser.add_argument("--requests", type=int, default=200, help="constrained requests for each model")
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    parts = given.only or ["documents", "neighbours", "choices"]
    raw: dict[str, Any] = {"machine": this_machine(), "command": " ".join(sys.argv)}
    table = Table("what", "result")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        smollm2 = demo_folder(COMMAND)
        if "documents" in parts:
            for folder in (smollm2, tiny_folder(smollm2, scratch / "tiny-llama")):
                rows = with_server(folder, scratch, lambda client: documents(client, given.requests))
                stopped = sum(row["finish"] == "stop" for row in rows)
                raw[f"documents {folder.name}"] = rows
                table.add_row(f"{folder.name}: ended in stop, all valid", f"{stopped} of {len(rows)}")
        for part, work in (("neighbours", neighbours), ("choices", choices)):
            if part in parts:
                rows = with_server(smollm2, scratch, lambda client, work=work: work(client, given.pairs))  # type: ignore[misc]
                raw[part] = rows
                ratios = [row["ratio"] for row in rows]
                table.add_row(f"{part}: ratio", f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    Console().print(table)
    RESULTS.write_text(json.dumps(raw, indent=1, default=str))


if __name__ == "__main__":
    main()
