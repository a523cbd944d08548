"""Where requests go among more replicas than stand here: `python bench/replicas/simulation.py
[--replicas 10 100 1000] [--front-ends 1 10 100]`.

The server's own queue and policy (mlx_server.queue) on a clock that jumps, before replicas that take as long as one did
here. Conversations are mixed by chance, and each request comes to a front end by chance. Front ends do not know of each
other; one before more than a hundred replicas each is left out, as it takes minutes. Rows go to
bench/results/simulation.json, plots to simulation.png.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, pstdev
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.processes import BENCH
from replicas.model import JumpingClock, Queued, Replica, RoundRobin, Service, Turn
from replicas.trace import Arrival, make_trace
from rich.console import Console
from rich.table import Table

from mlx_server.schemas.internal.generation import ChatPrompt, Message

RESULTS = BENCH / "results" / "simulation.json"
AFFINITY, STICKY, OWN = "prefix affinity", "prefix affinity, own front end", "prefix affinity, own replicas"
"""With the second and the third, all of a conversation comes to one front end; with the third, each front end has
replicas of its own."""

POLICIES = (AFFINITY, STICKY, OWN, "least loaded", "round robin")
TURNS = 6
PER_REPLICA = 4
"""Conversations, of which half go on at a time."""

MOST = 100
"""Replicas that a front end may have by itself."""

QUESTION, ANSWER = 2000, 400
"""Characters of a turn; four of them are a token."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run. `imbalance` is the standard deviation of the replicas' busy times over their mean; `processor_ms`:
    what the simulation took for a request, so that placing it takes less."""

    policy: str
    replicas: int
    front_ends: int
    requests: int
    hit_rate: float
    first_token_p50_s: float
    first_token_p95_s: float
    imbalance: float
    utilisation: float
    processor_ms: float


def turn_of(arrival: Arrival) -> Turn:
    """What a conversation says in that turn, after all that was said before."""
    said = [f"{arrival.conversation} {turn} ".ljust(QUESTION, "q") for turn in range(arrival.turn + 1)]
    answer = Message("assistant", "a" * ANSWER)
    messages = [message for text in said for message in (Message("user", text), answer)][:-1]
    return Turn((ChatPrompt(tuple(messages)),), max_tokens=ANSWER // 4, at_s=arrival.at_s)


def simulate(trace: list[Arrival], policy: str, replicas: int, front_ends: int, service: Service) -> Figures:
    """One policy on one trace."""
    began = time.process_time()
    clock, rng = JumpingClock(), random.Random(0)
    workers = [Replica(clock, service) for _ in range(replicas)]
    if policy == "round robin":
        fronts: list[Any] = [RoundRobin(workers, number * replicas // front_ends) for number in range(front_ends)]
    else:
        keeps = policy in (AFFINITY, STICKY, OWN)
        # Each front end has its own order, by which it decides between equals.
        reached = [workers[n::front_ends] if policy == OWN else workers for n in range(front_ends)]
        fronts = [Queued(clock, rng.sample(own, len(own)), service, keeps=keeps) for own in reached]
    for arrival in trace:
        front = fronts[arrival.conversation % front_ends] if policy in (STICKY, OWN) else rng.choice(fronts)
        clock.call_at(arrival.at_s, lambda front, one: front.arrive(turn_of(one)), front, arrival)
    clock.run()
    outcomes = [outcome for worker in workers for outcome in worker.outcomes]
    waits = sorted(outcome.first_token_s for outcome in outcomes)
    busy = [worker.busy_s for worker in workers]
    return Figures(
        policy,
        replicas,
        front_ends,
        len(outcomes),
        sum(outcome.known for outcome in outcomes) / sum(outcome.tokens for outcome in outcomes),
        waits[len(waits) // 2],
        waits[int(len(waits) * 0.95)],
        pstdev(busy) / mean(busy),
        sum(busy) / (clock.time() * replicas * service.rows),
        (time.process_time() - began) / len(outcomes) * 1000,
    )


def rate_of(load: float, replicas: int, service: Service) -> float:
    """Arrivals a second that keep so much of all rows busy, if nothing were known."""
    tokens = (QUESTION + (TURNS - 1) / 2 * (QUESTION + ANSWER)) / 4
    return load * replicas * service.rows / (tokens * service.prefill_s + ANSWER / 4 * service.step_s)


def draw(rows: list[Figures], path: Path) -> None:
    """A column for each number of replicas, a row for each figure, over the number of front ends."""
    pyplot = plotter()
    sizes = sorted({row.replicas for row in rows})
    kinds = {"first_token_p95_s": "time to first token, p95, s", "hit_rate": "hit rate", "imbalance": "imbalance"}
    figure, axes = pyplot.subplots(len(kinds), len(sizes), figsize=(4 * len(sizes), 8), squeeze=False, sharey="row")
    for line, (field, label) in enumerate(kinds.items()):
        for column, size in enumerate(sizes):
            plot = axes[line][column]
            for policy in POLICIES:
                own = [row for row in rows if row.policy == policy and row.replicas == size]
                plot.plot([row.front_ends for row in own], [getattr(row, field) for row in own], "o-", label=policy)
            plot.set(xscale="log", xlabel="front ends", title=f"{size} replicas" if line == 0 else None)
            plot.set_ylim(bottom=0)
        axes[line][0].set_ylabel(label)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncols=len(POLICIES), fontsize="small")
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    figure.savefig(path, dpi=100)


def plotter() -> ModuleType:
    """Matplotlib's, for files. Ends the process where it is missing."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise SystemExit("matplotlib is missing: pip install -e '.[bench]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def main() -> None:
    """Simulate, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--front-ends", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--load", type=float, default=0.9, help="share of all rows busy, if nothing were known")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--kept-tokens", type=int, default=16384)
    parser.add_argument("--prefill-ms", type=float, default=1.8, help="for a token; SmolLM2 on 2 cores here")
    parser.add_argument("--step-ms", type=float, default=61.0, help="of all rows; SmolLM2 on 2 cores here")
    given, console = parser.parse_args(), Console()
    plotter()
    service = Service(given.rows, given.kept_tokens, given.prefill_ms / 1000, given.step_ms / 1000)
    rows = []
    for replicas in given.replicas:
        trace = make_trace(PER_REPLICA * replicas, TURNS, rate_of(given.load, replicas, service))
        for front_ends in given.front_ends:
            for policy in POLICIES:
                alone = front_ends == 1 and policy in (STICKY, OWN)  # the same as without
                if alone or (policy == OWN and front_ends > replicas) or replicas // front_ends > MOST:
                    continue
                rows.append(simulate(trace, policy, replicas, front_ends, service))
                console.print(rows[-1])
    heads = "replicas", "front ends", "policy", "hit rate", "first token p50", "p95", "imbalance", "busy", "processor"
    table = Table(*heads)
    for row in rows:
        times = (f"{row.first_token_p50_s:.1f} s", f"{row.first_token_p95_s:.1f} s")
        shares = (f"{row.imbalance:.2f}", f"{row.utilisation:.2f}")
        took = f"{row.processor_ms:.2f} ms"
        table.add_row(str(row.replicas), str(row.front_ends), row.policy, f"{row.hit_rate:.2f}", *times, *shares, took)
    console.print(table)
    found = {"service": asdict(service), "load": given.load, "rows": [asdict(row) for row in rows]}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    draw(rows, RESULTS.with_suffix(".png"))


if __name__ == "__main__":
    main()
