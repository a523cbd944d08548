"""What many open streams cost the front end: `python bench/streams.py [--streams 2000] [--seconds 30]`.

The scripted backend writes ten tokens a second to each of many clients at once. Every token has a time at which it is
due (its stream's first token, and a tenth of a second for each after it); the figure is how much later it is read. The
front end's memory is sampled all the while: per stream, and by how much it grows while the streams run.

Targets: 250 ms at the 99th percentile, 30 KB per open stream. Raw rows go to bench/results/streams.json. Exit code 0
when both targets were met, else 2.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

from lib.connection import Connection, Exchange, connect
from lib.hardware import this_machine
from lib.others import OthersWatch
from lib.processes import BENCH, ServerProcess
from lib.scripted import scripted_request
from lib.summary import percentile
from load import run_in_loop
from rich.console import Console
from rich.table import Table

INTERVAL_S = 0.1
LATEST_MS = 250.0
LARGEST_KB = 30.0
OPENING_S = 5.0
"""Over which the streams are opened, so that their tokens don't all come at once."""
SAMPLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """The front end's resident memory at a moment of the run."""

    at_s: float
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class Result:
    """One run. `late_ms` are percentiles over all tokens; memory is the front end's; CPU in cores."""

    streams: int
    seconds: float
    tokens: int
    failed: int
    late_ms: dict[str, float]
    idle_rss_bytes: int
    open_rss_bytes: int
    last_rss_bytes: int
    front_end_cores: float
    worker_cores: float
    others_cores: float
    samples: list[Sample]

    @property
    def kb_per_stream(self) -> float:
        """What an open stream adds to the front end's memory, at the end, in 1,000 bytes."""
        return (self.last_rss_bytes - self.idle_rss_bytes) / self.streams / 1000

    @property
    def met(self) -> bool:
        """Both targets."""
        return not self.failed and self.late_ms["p99"] <= LATEST_MS and self.kb_per_stream <= LARGEST_KB


def lateness_s(exchanges: Sequence[Exchange]) -> list[float]:
    """How much later each token was read than it was due, in seconds, ascending."""
    late: list[float] = []
    for exchange in exchanges:
        number = 0
        for at, contents in zip(exchange.read_times_s, exchange.read_contents, strict=True):
            for _ in range(contents):
                late.append(max(0.0, at - exchange.read_times_s[0] - number * INTERVAL_S))
                number += 1
    return sorted(late)


async def run(server: ServerProcess, streams: int, tokens: int) -> Result:
    """All streams from their opening to their end."""
    request = scripted_request(server, tokens, INTERVAL_S)
    url = urlsplit(server.url)

    async def stream(number: int) -> Exchange:
        await asyncio.sleep(OPENING_S * number / streams)
        connection: Connection = await connect(url)
        exchange = await connection.exchange(request)
        connection.close()
        return exchange

    samples: list[Sample] = []
    idle = server.rss_bytes()
    began, cpu = perf_counter(), server.cpu_seconds()
    with OthersWatch() as others:
        running = asyncio.gather(*(stream(number) for number in range(streams)))
        while not running.done():
            await asyncio.sleep(SAMPLE_S)
            samples.append(Sample(round(perf_counter() - began, 2), server.rss_bytes()))
        exchanges = await running
    seconds = perf_counter() - began
    front, worker = (round((now - then) / seconds, 3) for now, then in zip(server.cpu_seconds(), cpu, strict=True))
    late = lateness_s(exchanges)
    while_open = [s.rss_bytes for s in samples if OPENING_S < s.at_s < tokens * INTERVAL_S]
    return Result(
        streams=streams,
        seconds=round(seconds, 2),
        tokens=len(late),
        failed=sum(exchange.outcome != "ok" for exchange in exchanges),
        late_ms={f"p{p}": round(percentile(late, p) * 1000, 2) for p in (50, 95, 99, 100)},
        idle_rss_bytes=idle,
        open_rss_bytes=while_open[0],
        last_rss_bytes=while_open[-1],
        front_end_cores=front,
        worker_cores=worker,
        others_cores=others.cores,
        samples=samples,
    )


def table_of(result: Result) -> Table:
    """The figures for people."""
    table = Table("figure", "measured", "target")
    late = ", ".join(f"{name} {value:.1f}" for name, value in result.late_ms.items())
    grown = (result.last_rss_bytes - result.open_rss_bytes) / 1e6
    table.add_row("streams, tokens", f"{result.streams:,}, {result.tokens:,} ({result.failed} failed)", "none failed")
    table.add_row("a token is late by, ms", late, f"p99 <= {LATEST_MS:g}")
    table.add_row("memory per open stream", f"{result.kb_per_stream:.1f} KB", f"<= {LARGEST_KB:g} KB")
    table.add_row("growth while they run", f"{grown:+.1f} MB", "flat")
    table.add_row("front end, worker", f"{result.front_end_cores:.2f}, {result.worker_cores:.2f} cores", "")
    table.add_row("others' cores", f"{result.others_cores:.2f}", "")
    return table


def main() -> int:
    """Start the server, run the streams, keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each stream runs")
    parser.add_argument("--out", type=Path, default=BENCH / "results" / "streams.json", help="where the rows go")
    options = parser.parse_args()
    machine = this_machine()
    launch = ["launch", "--model-type", "scripted", "--model-path", "scripted"]
    rows = ["--max-concurrency", str(options.streams)]
    with tempfile.TemporaryDirectory(prefix="mlx-server-bench-") as scratch:
        command = [sys.executable, "-m", "mlx_server.app", *launch, *rows]
        with ServerProcess(command, Path(scratch) / "server.log") as server:
            tokens = round(options.seconds / INTERVAL_S)
            run_in_loop(lambda: run(server, 50, 80))  # warm-up
            result = run_in_loop(lambda: run(server, options.streams, tokens))
    Console().print(table_of(result))
    facts = {"machine": asdict(machine), "command": sys.argv, "met": result.met}
    options.out.write_text(json.dumps({**facts, **asdict(result)}, indent=1) + "\n")
    return 0 if result.met else 2


if __name__ == "__main__":
    sys.exit(main())
