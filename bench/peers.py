"""This server beside others with the same API: `make bench-peers`, or `python bench/peers.py --only tiny --rounds 3`.

One command, one run, one machine, one model, one client. All servers stay loaded and are measured in turns; who is
first changes from round to round, and ratios are taken within a round. Peers are started as their READMEs say, with the
BLAS that this server's workers get; the part `installed` has them without it, as pip leaves them. Rapid-MLX and
vllm-mlx take part where `make bench-peers` has made their environments. Results go to
bench/results/peers.{md,json,png}.
"""

import argparse
import json
import shlex
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from embeddings import demo_folder as embedding_folder
from lib import peer_scenarios as scenarios
from lib.grounded_work import GROUNDED
from lib.hardware import this_machine
from lib.models import model_cases
from lib.peer_report import Comparison
from lib.peer_servers import (
    OURS,
    PLAIN,
    SEPARATE,
    Command,
    Peer,
    Running,
    alike,
    others,
    ours,
    program,
    separate,
    version_of,
)
from lib.processes import BENCH, EngineProcess, StartError
from rich.console import Console
from run import demo_folder, leave, parts_of, tiny_folder

from mlx_server.workers.parent.environment import child_environment

PARTS = ("smollm2", "tiny", "grounded", "prefix", "restart", "arrival", "installed", "embeddings")
BARE = "bare engine"
PACKAGES = ("mlx", "mlx-lm", "mlx-vlm", "mlx-server")
ROWS = 32
INSTALLED_CLIENTS, INSTALLED_TOKENS = 8, 8

Work = Callable[[Peer, int], tuple[float, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Bench:
    """One run: which parts, how often, what else is compared, where logs go, what was found."""

    parts: frozenset[str]
    rounds: int
    quick: bool
    urls: tuple[Peer, ...]
    server: tuple[str, ...]
    scratch: Path
    console: Console
    found: Comparison

    def peers(self, folder: Path) -> list[Command]:
        """All others, but for those whose environment has not been made."""
        return [*others(folder), *separate(folder, self.scratch)]

    def turns(self, scenario: str, peers: Sequence[Peer], work: Work) -> None:
        """Every server once in every round; the first round warms up and is not counted."""
        for number in range(self.rounds + 1):
            first = number % len(peers)
            for peer in [*peers[first:], *peers[:first]]:
                try:
                    row = scenarios.watched(scenario, peer, number, partial(work, peer, number))
                except scenarios.PeerError as error:
                    if peer.name in (OURS, BARE):
                        raise
                    self.console.print(str(error), style="red", markup=False, highlight=False)
                    continue
                mark = "" if number else " (warm-up)"
                self.console.print(f"{scenario}, {peer.name}: {row.value:.3f}{mark}", highlight=False)
                if number:
                    self.found.rows.append(row)


def run(bench: Bench) -> None:
    """All parts."""
    if bench.parts - {"embeddings"}:
        smollm2 = demo_folder(list(bench.server))
        if "tiny" in bench.parts:
            throughputs(bench, "tiny", tiny_folder(smollm2, bench.scratch / "tiny-llama"))
        if "smollm2" in bench.parts:
            throughputs(bench, "smollm2", smollm2)
        if bench.parts & {"grounded", "prefix", "arrival"}:
            alone(bench, smollm2)
        if "restart" in bench.parts:
            restarted(bench, smollm2)
        if "installed" in bench.parts:
            installed(bench, smollm2)
    if "embeddings" in bench.parts:
        embedded(bench, embedding_folder())


def throughputs(bench: Bench, name: str, folder: Path) -> None:
    """Tokens per second by the number of clients, the bare engine among the servers."""
    log = bench.scratch / f"engine-{name}.log"
    with (
        EngineProcess(folder, child_environment(), log) as engine,
        Running([ours(folder, ROWS), *alike(bench.peers(folder))], bench.scratch, bench.urls) as running,
    ):
        for case in model_cases(name, bench.quick):
            engine.ask("calibrate", case.clients, case.max_tokens)

            def work(peer: Peer, number: int, case: Any = case) -> tuple[float, dict[str, Any]]:
                if peer.name == BARE:
                    first = scenarios.first_prompt(case.clients, case.requests, number)
                    answer = engine.ask("run", case.clients, case.requests, case.max_tokens, first)
                    return answer["tokens_per_s"], answer
                return scenarios.throughput(peer, case.clients, case.requests, case.max_tokens, number)

            scenario = f"{name}, {case.clients} client{'s' * (case.clients > 1)}"
            bench.turns(scenario, [Peer(BARE, "", None), *running.peers], work)


def alone(bench: Bench, folder: Path) -> None:
    """Answers that repeat what they are given, what a known beginning saves, and what a long prompt does to running
    streams."""
    with Running([ours(folder, ROWS), *alike(bench.peers(folder))], bench.scratch, bench.urls) as running:
        for kind in GROUNDED if "grounded" in bench.parts else ():
            bench.turns(f"grounded work, {kind}, 1 client", running.peers, partial(scenarios.grounded, kind=kind))
        if "prefix" in bench.parts:
            bench.turns("prefix of 1,000 tokens", running.peers, scenarios.prefix_hit)
        if "arrival" in bench.parts:
            bench.turns("arrival of 2,000 tokens", running.peers, scenarios.arrival)


def restarted(bench: Bench, folder: Path) -> None:
    """What a beginning saves that an earlier process has left on disk."""
    command = ours(folder, ROWS, "--prompt-cache-dir", str(bench.scratch / "kept"))

    def work(_: Peer, number: int) -> tuple[float, dict[str, Any]]:
        def asked(question: str) -> scenarios.Row:
            with Running([command], bench.scratch) as running:
                [peer] = running.peers
                scenarios.one(peer, scenarios.words(20, seed=-1), 1)  # what the first request of a process costs
                return scenarios.one(peer, scenarios.beginning(number, question), 4)

        return scenarios.share(asked("Who sings?"), asked("What is old?"))

    bench.turns("prefix of 1,000 tokens, after a restart", [Peer(OURS, "", None)], work)


def installed(bench: Bench, folder: Path) -> None:
    """Everybody as a first installation leaves them."""
    plain = [replace(command, name=f"{command.name}, {PLAIN}") for command in bench.peers(folder)]

    def work(peer: Peer, number: int) -> tuple[float, dict[str, Any]]:
        return scenarios.throughput(peer, INSTALLED_CLIENTS, INSTALLED_CLIENTS, INSTALLED_TOKENS, number)

    with Running([ours(folder, INSTALLED_CLIENTS), *plain], bench.scratch) as running:
        bench.turns(f"{PLAIN}, {INSTALLED_CLIENTS} clients", running.peers, work)


def embedded(bench: Bench, folder: Path) -> None:
    """Sentences per second."""
    launch = ("launch", "--model-type", "embeddings", "--model-path", str(folder))
    own = Command(OURS, (*bench.server, *launch), folder.name, "/health/ready")
    with Running([own, *alike(others(folder, embeddings=True))], bench.scratch) as running:
        bench.turns("embeddings, 64 clients", running.peers, scenarios.sentences)


def _url(text: str) -> Peer:
    name, _, url = text.partition("=")
    if not url.startswith("http"):
        raise argparse.ArgumentTypeError("must be NAME=http://127.0.0.1:PORT/v1")
    try:
        with urllib.request.urlopen(f"{url}/models", timeout=10) as response:
            models = json.load(response)["data"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"{url}/models can't be read: {error}") from None
    return Peer(name, url, models[0]["id"] if models else None)


def main() -> int:
    """Measure, show the tables, keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=parts_of(PARTS), default=frozenset(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int, help="counted rounds (default: 5; quick: 1)")
    parser.add_argument("--quick", action="store_true", help="short rounds, to see that it works")
    parser.add_argument("--url", type=_url, action="append", default=[], help="NAME=URL of another server that runs")
    parser.add_argument("--out", type=Path, help="stem of the results (default: bench/results/peers or quick)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, leave)
    console = Console(soft_wrap=True)
    versions = {name: version(name) for name in PACKAGES}
    for name in SEPARATE:
        if program(name).exists():
            versions[name] = version_of(name)
        else:
            console.print(f"{name} is left out: it has no environment, which `make bench-peers` makes", style="yellow")
    found = Comparison(this_machine(), shlex.join(["python", *sys.argv]), versions)
    failed = False
    with tempfile.TemporaryDirectory(prefix="mlx-server-bench-") as scratch:
        rounds = options.rounds or (1 if options.quick else 5)
        server = (sys.executable, "-m", "mlx_server.app")
        bench = Bench(options.only, rounds, options.quick, tuple(options.url), server, Path(scratch), console, found)
        try:
            run(bench)
        except (StartError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
            console.print(str(error), style="red", markup=False, highlight=False)
            failed = True
        finally:  # also when it is stopped
            found.write(options.out or BENCH / "results" / ("quick" if options.quick else "peers"), OURS)
    print(found.markdown(OURS))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
