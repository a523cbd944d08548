"""The benchmark: `python bench/run.py`. The method and how to read the tables: bench/README.md."""

import argparse
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lib.abandon import REQUESTS, ROWS, measure_abandon
from lib.hardware import this_machine
from lib.models import Case, CaseResult, measure_model, model_cases
from lib.processes import BENCH, EngineProcess, ServerProcess, StartError, troubles
from lib.report import Report, Target
from lib.scripted import CLIENTS, SlowReader, measure_slow_reader, measure_streaming
from rich.console import Console

from mlx_server.workers.parent.environment import child_environment

PARTS = ("smollm2", "tiny", "scripted", "abandon")
RESULTS = BENCH / "results"
TOKENS_DIFFER_AT_MOST = 0.02
STREAMED_AT_LEAST = 20_000
PLACE_BACK_MS = 100.0
# Two sizes of unread answer may differ in peak memory by no more than the allocator's noise.
MEMORY_NOISE_MIB = 2.0


@dataclass(frozen=True, slots=True)
class Bench:
    """One run: what to do, with what, and where logs go. No `clients` means all counts."""

    parts: frozenset[str]
    pairs: int
    clients: frozenset[int]
    quick: bool
    server: list[str]
    model: Path | None
    scratch: Path
    console: Console
    report: Report

    def launch(self, *arguments: str) -> ServerProcess:
        log = self.scratch / f"server-{len(list(self.scratch.glob('server-*.log')))}.log"
        log.touch()
        return ServerProcess([*self.server, "launch", *arguments], log)

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)


def run(bench: Bench) -> None:
    if bench.parts & {"smollm2", "tiny"}:
        smollm2 = bench.model or demo_folder(bench.server)
        if "smollm2" in bench.parts:
            run_model(bench, "smollm2", smollm2)
        if "tiny" in bench.parts:
            run_model(bench, "tiny", tiny_folder(smollm2, bench.scratch / "tiny-llama"))
    if "scripted" in bench.parts:
        run_scripted(bench)
    if "abandon" in bench.parts:
        run_abandon(bench)


def run_model(bench: Bench, name: str, folder: Path) -> None:
    def launch(clients: int) -> ServerProcess:
        return bench.launch("--model-path", str(folder), "--max-concurrency", str(clients))

    cases = [case for case in model_cases(name, bench.quick) if case.clients in (bench.clients or (case.clients,))]
    if not cases:
        return
    with EngineProcess(folder, child_environment(), bench.scratch / f"engine-{name}.log") as engine:
        bench.report.engine = engine.facts
        results = measure_model(cases, bench.pairs, engine, launch, bench.say)
    for result in results:
        bench.report.models.append(result.figures())
        bench.report.targets += model_targets(result.case, result)
    bench.report.raw[name] = [asdict(result) for result in results]


def model_targets(case: Case, result: CaseResult) -> list[Target]:
    figures = result.figures()
    ratio, differ = figures["ratio"]["median"], figures["token_difference"]
    name = f"{case.model}, {case.clients} clients"
    return [
        Target(f"{name}: ratio", f"{ratio:.3f}", f">= {case.target_ratio}", ratio >= case.target_ratio),
        Target(
            f"{name}: token totals differ",
            f"{differ:.2%}",
            f"<= {TOKENS_DIFFER_AT_MOST:.0%}",
            differ <= TOKENS_DIFFER_AT_MOST and not figures["failed"],
        ),
    ]


def run_scripted(bench: Bench) -> None:
    tokens, held_s, unread = (500, 2.0, 30_000) if bench.quick else (2000, 8.0, 300_000)
    log = bench.scratch / "bare-sse.log"
    bare = ServerProcess([sys.executable, str(BENCH / "bare_sse.py")], log)
    with bare, launch_scripted(bench, rows=CLIENTS) as server:
        streaming = measure_streaming(bench.pairs, tokens, bare, server, bench.say)
    with launch_scripted(bench, rows=CLIENTS) as server:
        readers = [measure_slow_reader(server, size, held_s) for size in (unread // 10, unread)]
    figures = streaming.figures()
    bench.report.streaming = figures
    bench.report.slow_readers = [asdict(reader) for reader in readers]
    bench.report.raw["scripted"] = [asdict(pair) for pair in streaming.pairs]
    rate = figures["server_events_per_s"]["median"]
    met = rate >= STREAMED_AT_LEAST and not figures["failed"]
    bench.report.targets += [
        Target("scripted: tokens/s, an event each", f"{rate:.0f}", f">= {STREAMED_AT_LEAST}", met),
        memory_target(*readers),
    ]


def memory_target(few: SlowReader, many: SlowReader) -> Target:
    grown = (many.peak_held_mib - many.before_mib) - (few.peak_held_mib - few.before_mib)
    complete = few.outcome == "ok" and few.received_tokens == few.tokens
    # A reader that leaves far too much unread is given up, which has to be said to it.
    honest = many.outcome == "error_event" or (many.outcome == "ok" and many.received_tokens == many.tokens)
    return Target(
        f"front end's growth with {many.tokens} tokens unread, over that with {few.tokens}",
        f"{grown:+.1f} MiB",
        f"<= {MEMORY_NOISE_MIB:.0f} MiB",
        grown <= MEMORY_NOISE_MIB and complete and honest,
    )


def run_abandon(bench: Bench) -> None:
    server = launch_scripted(bench, rows=ROWS, queue_size=REQUESTS)
    with server:
        result = measure_abandon(server)
    found = troubles(server.log)
    bench.report.abandon = result.figures() | {"log_troubles": found, "exit_code": server.exit_code}
    bench.report.raw["abandon"] = asdict(result)
    slowest = max(*result.one_by_one_ms, result.at_once_ms)
    admitted = result.admitted == REQUESTS and not result.disturbed
    settled = result.final_stats["active_requests"] == 0 and result.rest_outcomes.keys() == {"ok"}
    bench.report.targets += [
        Target(
            "abandoned: slowest place back",
            f"{slowest:.1f} ms",
            f"<= {PLACE_BACK_MS:.0f} ms",
            slowest <= PLACE_BACK_MS and admitted,
        ),
        Target("abandoned: live at the end", str(result.final_stats["active_requests"]), "0, the rest ok", settled),
        Target("abandoned: error lines in the log", str(len(found)), "0", not found),
    ]


def launch_scripted(bench: Bench, rows: int, queue_size: int = 100) -> ServerProcess:
    return bench.launch(
        *("--model-type", "scripted", "--model-path", "scripted"),
        *("--max-concurrency", str(rows), "--queue-size", str(queue_size)),
    )


def demo_folder(server: list[str]) -> Path:
    """The folder of the demo model, which the server's command fetches and converts when needed."""
    done = subprocess.run([*server, "demo"], stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip().splitlines()[-1])


def tiny_folder(smollm2: Path, out: Path) -> Path:
    """The random model, written by a process of its own: this one must stay free of MLX, to be a light client."""
    subprocess.run(
        [sys.executable, str(BENCH / "make_tiny.py"), str(smollm2), str(out)],
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return out


def leave(number: int, frame: object) -> None:
    """Unwinds the `with` blocks of a terminated benchmark, so that no server outlives it."""
    sys.exit(128 + number)


def parts_of(known: Sequence[str]) -> Callable[[str], frozenset[str]]:
    """Reads an option that names some of the parts."""

    def read(text: str) -> frozenset[str]:
        parts = frozenset(text.split(","))
        if not parts <= set(known):
            raise argparse.ArgumentTypeError(f"choose from {', '.join(known)}")
        return parts

    return read


def _counts(text: str) -> frozenset[int]:
    return frozenset(map(int, text.split(",")))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures the server against its baselines.")
    parser.add_argument("--only", type=parts_of(PARTS), default=frozenset(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--pairs", type=int, help="interleaved pairs per case (default: 5; quick: 2)")
    parser.add_argument(
        "--clients", type=_counts, default=frozenset(), help="only these client counts of the models, as in 1,8"
    )
    parser.add_argument("--quick", action="store_true", help="short runs, to see that everything works")
    parser.add_argument("--model", type=Path, help="MLX folder of SmolLM2 (default: from `mlx-server demo`)")
    parser.add_argument(
        "--server",
        type=shlex.split,
        default=[str(Path(sys.executable).with_name("mlx-server"))],
        help="the server's command (default: mlx-server beside this Python)",
    )
    parser.add_argument("--out", type=Path, help="stem of the results (default: bench/results/latest or quick)")
    return parser.parse_args()


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, leave)
    console = Console()
    report = Report(this_machine(), shlex.join(["python", *sys.argv]))
    with tempfile.TemporaryDirectory(prefix="mlx-server-bench-") as scratch:
        bench = Bench(
            parts=options.only,
            pairs=options.pairs or (2 if options.quick else 5),
            clients=options.clients,
            quick=options.quick,
            server=options.server,
            model=options.model,
            scratch=Path(scratch),
            console=console,
            report=report,
        )
        failed = not attempt(bench)
    report.write(options.out or RESULTS / ("quick" if options.quick else "latest"))
    report.show(console)
    if failed:
        return 1
    return 0 if all(target.met for target in report.targets) else 2


def attempt(bench: Bench) -> bool:
    """Runs every part; on a failure says what happened, so that what was measured before is still written."""
    try:
        run(bench)
    except (StartError, OSError, subprocess.CalledProcessError) as error:
        bench.console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return False
    finally:
        logs = sorted(bench.scratch.glob("*.log"))
        bench.report.raw["log_troubles"] = {log.name: lines for log in logs if (lines := troubles(log))}
    return True


if __name__ == "__main__":
    sys.exit(main())
