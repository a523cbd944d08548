"""Batches: killed at random moments, and against clients. `python bench/batches/run.py`, or with the flags

    --kills 20      kills of the server and of the worker, in turns by lot, while one batch runs
    --pairs 3       the same prompts as a batch, and by a closed loop of clients, one after the other
    --lines 2000    requests of a batch

The model is the tiny llama; answers are greedy. Rows go to bench/results/batches.json, each part in its own place. Exit
code 0 if each line had one result after the kills, equal to that of an undisturbed batch, else 2.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from lib.hardware import this_machine
from lib.processes import BENCH, ServerProcess
from load import LoadSpec, measure
from run import demo_folder, tiny_folder

from mlx_server.app.connect.batches import BatchClient, BatchState
from mlx_server.app.connect.running_server import ServerProblem
from mlx_server.workers.parent.environment import usable_cores

RESULTS = BENCH / "results" / "batches.json"
ROWS = 16
CLIENTS = (16, 24)
"""Of closed loops; the better one counts."""

MAX_TOKENS = 16
LEAST_WORDS, MOST_WORDS = 8, 200
SHARED_WORDS = 167
"""Of the beginning that half of the prompts have in common, in the second row of throughput: some 800 tokens."""

EARLIEST_S, LATEST_S = 0.2, 3.0
"""After it serves again the next kill comes somewhere between these."""

CHAT = "/v1/chat/completions"
WAIT_S = 600.0


def prompts_of(lines: int, seed: int, shared: int = 0, lengths_seed: int | None = None) -> list[str]:
    """Prompts of words by lot, of unlike lengths; every other one begins with the same `shared` words. Those of the
    same `lengths_seed` are as long as each other."""
    lot, lengths = random.Random(seed), random.Random(seed if lengths_seed is None else lengths_seed)
    word = lambda: f"w{lot.randrange(5000)}"  # noqa: E731
    beginning = [word() for _ in range(shared)]
    found = []
    for number in range(lines):
        words = [word() for _ in range(lengths.randint(LEAST_WORDS, MOST_WORDS))]
        found.append(" ".join([*(beginning if shared and number % 2 else ()), f"n{number}", *words]))
    return found


def written(prompts: list[str], folder: Path) -> Path:
    """The prompts as a batch's file."""
    path = folder / "requests.jsonl"
    with path.open("w") as file:
        for number, prompt in enumerate(prompts):
            messages = [{"role": "user", "content": prompt}]
            body = {"model": "tiny", "messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0}
            line = {"custom_id": str(number), "method": "POST", "url": CHAT, "body": body}
            file.write(json.dumps(line) + "\n")
    return path


def server_of(model: Path, data: Path, log: Path) -> ServerProcess:
    """A server with the model that keeps its files in a folder."""
    flags = (
        "--model-path",
        model,
        "--model-name",
        "tiny",
        "--max-concurrency",
        ROWS,
        "--no-standby",
        "--data-dir",
        data,
    )
    return ServerProcess([sys.executable, "-m", "mlx_server.app", "launch", *map(str, flags)], log)


def workers_of(server: ServerProcess) -> list[psutil.Process]:
    """Its worker, unless that is dead already."""
    return [child for child in server.children() if "mlx_server.workers" in child.cmdline()]


def client_of(server: ServerProcess) -> BatchClient:
    """A client of it."""
    return BatchClient(server.url.removesuffix("/v1"), None)


def ended(client: BatchClient, id_: str) -> BatchState:
    """A batch once it has ended."""
    deadline = time.monotonic() + WAIT_S
    while not (batch := client.get(id_)).ended:
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
    return batch


def texts(client: BatchClient, batch: BatchState) -> list[tuple[str, str]]:
    """Ids and answers of an output file, in its order."""
    assert batch.output_file_id is not None
    lines = b"".join(client.content(batch.output_file_id)).splitlines()
    rows = [json.loads(line) for line in lines]
    return [(row["custom_id"], row["response"]["body"]["choices"][0]["message"]["content"]) for row in rows]


def undisturbed(model: Path, file: Path, folder: Path) -> dict[str, str]:
    """What each line is answered with where nothing happens."""
    with server_of(model, folder / "calm", folder / "calm.log") as server:
        client = client_of(server)
        return dict(texts(client, ended(client, client.submit(file, CHAT, "24h").id)))


def kill_at_random(model: Path, lines: int, kills: int, folder: Path) -> dict[str, Any]:
    """What came of a batch that was disturbed, compared with one that was not."""
    file = written(prompts_of(lines, seed=1), folder)
    expected = undisturbed(model, file, folder)
    lot = random.Random(kills)
    server = server_of(model, folder / "killed", folder / "killed.log").__enter__()
    id_ = client_of(server).submit(file, "/v1/chat/completions", "24h").id
    killed = {"server": 0, "worker": 0}
    unkept = 0
    for _ in range(kills):
        time.sleep(lot.uniform(EARLIEST_S, LATEST_S))
        counted = client_of(server).get(id_).request_counts.ended
        if lot.random() < 0.5 and (workers := workers_of(server)):
            killed["worker"] += 1
            workers[0].kill()
        else:
            killed["server"] += 1
            psutil.Process(server.pid).kill()
            server.stop()
            server = server_of(model, folder / "killed", folder / "killed.log").__enter__()
        unkept += max(0, counted - client_of(server).get(id_).request_counts.ended)
    batch = ended(client_of(server), id_)
    found = texts(client_of(server), batch)
    server.stop()
    return {
        "lines": lines,
        "kills": killed,
        "status": batch.status,
        "results": len(found),
        "distinct": len(dict(found)),
        "failed": batch.request_counts.failed,
        "unlike_the_undisturbed": sum(expected[name] != text for name, text in found),
        "counted_and_lost": unkept,
    }


def run_to_end(client: BatchClient, file: Path) -> None:
    """Submit a batch, and wait for its last line."""
    ended(client, client.submit(file, CHAT, "24h").id)


def throughput(model: Path, lines: int, pairs: int, shared: int, folder: Path) -> dict[str, Any]:
    """Seconds for the same prompts: by clients, and as a batch; medians of pairs. `limit` is the ratio of a batch that
    costs what its worker computes and nothing else, shared evenly by all cores."""
    rows = []
    with server_of(model, folder / f"throughput{shared}", folder / "throughput.log") as server:
        client = client_of(server)

        def timed(name: str, work: Callable[[], object]) -> dict[str, float]:
            spent, began = server.cpu_seconds(), time.perf_counter()
            work()
            seconds = time.perf_counter() - began
            front, worker = (after - before for before, after in zip(spent, server.cpu_seconds(), strict=True))
            took = {name: seconds, f"{name}, front end's processor": front, f"{name}, worker's": worker}
            return {part: round(value, 3) for part, value in took.items()}

        for pair in range(pairs):
            # Other words for each run: nothing of it is known yet.
            row: dict[str, float] = {}
            for clients in CLIENTS:
                prompts = prompts_of(lines, 100 * pair + clients, shared)
                spec = LoadSpec(server.url, prompts, MAX_TOKENS, clients=clients, model="tiny")
                row |= timed(f"{clients} clients", partial(measure, spec))
            file = written(prompts_of(lines, 100 * pair, shared), folder)
            row |= timed("batch", partial(run_to_end, client, file))
            best = min(row[f"{clients} clients"] for clients in CLIENTS)
            row["ratio"] = round(best / row["batch"], 3)
            row["limit"] = round(best * usable_cores() / row["batch, worker's"], 3)
            rows.append(row)
            print(row, flush=True)
    medians = {name: statistics.median(row[name] for row in rows) for name in ("ratio", "limit")}
    return {"lines": lines, "shared_words": shared, "pairs": rows, **medians}


def main() -> None:
    """Measure what is asked for, else everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--lines", type=int, default=2000)
    options = parser.parse_args()
    everything = options.kills is None and options.pairs is None
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["machine"] = this_machine().line()
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny_folder(demo_folder([sys.executable, "-m", "mlx_server.app"]), folder / "tiny")
        if everything or options.kills:
            results["kills"] = found = kill_at_random(model, options.lines, options.kills or 20, folder)
            print(found)
            whole = found["results"] == found["distinct"] == options.lines
            good = whole and not (found["failed"] or found["unlike_the_undisturbed"] or found["counted_and_lost"])
        if everything or options.pairs:
            pairs = options.pairs or 3
            for part, shared in (("unlike", 0), ("half_share_a_beginning", SHARED_WORDS)):
                results[part] = throughput(model, options.lines, pairs, shared, folder)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(0 if good else 2)


if __name__ == "__main__":
    try:
        main()
    except ServerProblem as problem:
        sys.exit(str(problem))
