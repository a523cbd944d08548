"""Where the time of a worker's engine thread goes while clients are served: `python bench/hot_spots.py [--clients 8]`.

py-spy looks at the worker 200 times a second while a closed loop of clients keeps the tiny llama busy, whose steps cost
little. The table has the lines that the engine thread was at most often, as shares of its busy samples, innermost line
first; a line that waits for MLX stands for the computation. It is written to bench/results/hot_spots.md, with the rate
that was reached meanwhile. `--name` and `--append` put several runs into one file: with PYTHONPATH at the `.typed`
folder of another checkout, its code is what is served.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import psutil
from lib.hardware import this_machine
from lib.processes import BENCH, ServerProcess
from lib.prompts import prompt_texts
from load import LoadSpec, measure
from run import demo_folder, tiny_folder

SERVER = (sys.executable, "-m", "mlx_server.app")
TOKENS = 128
RATE = 200
SHOWN = 12
RESULTS = BENCH / "results" / "hot_spots.md"


def worker_of(server: ServerProcess) -> psutil.Process:
    """The process with the model: the one that has worked most."""
    return max(server.children(), key=lambda process: sum(process.cpu_times()[:2]))


def recorded(worker: psutil.Process, seconds: float, folder: Path) -> list[tuple[str, int]]:
    """The stacks that were seen, outermost frame first, and how often."""
    path = folder / "stacks.txt"
    flags = ("--format", "raw", "--threads", "--rate", str(RATE), "--duration", str(int(seconds)))
    command = ["py-spy", "record", *flags, "--pid", str(worker.pid), "--output", str(path)]
    subprocess.run([str(Path(sys.executable).with_name(command[0])), *command[1:]], check=True, capture_output=True)
    lines = (line.rpartition(" ") for line in path.read_text().splitlines())
    return [(stack, int(count)) for stack, _, count in lines]


def table(stacks: list[tuple[str, int]]) -> str:
    """The innermost lines of the engine's thread."""
    own = [(stack.split(";"), count) for stack, count in stacks if ": mlx" in stack.split(";")[0]]
    busy = [(frames, count) for frames, count in own if len(frames) > 1]
    total = sum(count for _, count in busy) or 1
    leaves: Counter[str] = Counter()
    for frames, count in busy:
        leaves[frames[-1]] += count
    lines = ["| line | share of samples |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {leaf} | {count / total:.1%} |" for leaf, count in leaves.most_common(SHOWN))])


def main() -> None:
    """Serve, look, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--name", default="this code")
    parser.add_argument("--append", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlx-server-bench-") as scratch:
        folder = tiny_folder(demo_folder(list(SERVER)), Path(scratch) / "tiny")
        command = (*SERVER, "launch", "--model-path", str(folder), "--max-concurrency", str(given.clients))
        with ServerProcess(command, Path(scratch) / "log") as server:

            def load(prompts: int, first: int) -> float:
                texts = prompt_texts(prompts, first=first)
                return measure(LoadSpec(server.url, texts, TOKENS, given.clients)).summary.tokens_per_s

            load(given.clients, 0)
            rate = load(5 * given.clients, given.clients)
            enough = int(1.5 * rate * given.seconds / TOKENS) + given.clients
            serving = threading.Thread(target=load, args=(enough, 6 * given.clients), daemon=True)
            serving.start()
            stacks = recorded(worker_of(server), given.seconds, Path(scratch))
        rate_said = f"{given.clients} clients, {rate:.0f} tokens/s without py-spy"
        block = f"## {given.name}: {rate_said}\n\n{table(stacks)}\n"
    print(block)
    head = RESULTS.read_text() if given.append else f"{this_machine().line()}\n"
    RESULTS.write_text(f"{head}\n{block}")


if __name__ == "__main__":
    main()
