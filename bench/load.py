"""A load client for any server with OpenAI's API: `python bench/load.py --url http://127.0.0.1:8000/v1`.

Closed loop (`--clients`): each client sends its next request when its last one has ended.
Open loop (`--rate`): requests arrive as a seeded Poisson process, whatever the server does; their
latencies count from the scheduled arrival, so that a slow server can't hide by delaying the client.
"""

import argparse
import asyncio
import ipaddress
import json
import random
import resource
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, TypeVar
from urllib.parse import SplitResult, urlsplit

from lib.connection import Connection, Exchange, connect, http_request
from lib.prompts import prompt_texts
from lib.summary import PERCENTILES, Row, Summary, summarise
from rich.console import Console
from rich.table import Table

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """What to send. `url` ends where `/chat/completions` is appended; one request per prompt: text, or for chat the
    parts of a message's content.

    Exactly one of `clients` (closed loop) and `rate` (open loop, requests per second) is set.
    """

    url: str
    prompts: Sequence[str | list[dict[str, Any]]]
    max_tokens: int
    clients: int | None = None
    rate: float | None = None
    api: Literal["chat", "completions"] = "chat"
    temperature: float = 0.0
    seed: int = 0
    model: str | None = None
    api_key: str | None = None
    timeout_s: float = 600.0
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadResult:
    rows: list[Row]
    summary: Summary


def run_in_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs `work` on uvloop where it is installed, else on asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work())
    return uvloop.run(work())


def measure(spec: LoadSpec) -> LoadResult:
    """Sends every request of `spec` and returns the rows in order of their index."""
    return run_in_loop(lambda: run_load(spec))


async def run_load(spec: LoadSpec) -> LoadResult:
    assert (spec.clients is None) != (spec.rate is None)
    cpu_s = _cpu_seconds()
    zero = perf_counter()
    if spec.clients is not None:
        exchanges = await _closed_loop(spec, spec.clients)
    else:
        assert spec.rate is not None
        exchanges = await _open_loop(spec, spec.rate)
    cpu_s = _cpu_seconds() - cpu_s
    rows = [_row(index, exchange, outcome, zero) for index, exchange, outcome in sorted(exchanges, key=_index)]
    return LoadResult(rows, summarise(rows, cpu_s))


Outcome = tuple[int, Exchange, str]


def _index(outcome: Outcome) -> int:
    return outcome[0]


async def _closed_loop(spec: LoadSpec, clients: int) -> list[Outcome]:
    outcomes: list[Outcome] = []
    requests = iter(list(encoded(spec)))
    url = urlsplit(spec.url)

    async def client(connection: Connection) -> None:
        for index, request in requests:
            started_s = perf_counter()
            try:
                if not connection.usable:
                    connection = await connect(url)
            except OSError:
                outcomes.append(_unreached(index, started_s))
                continue
            outcomes.append(await _send(index, connection, request, started_s, spec.timeout_s))
        connection.close()

    connections = [await connect(url) for _ in range(min(clients, len(spec.prompts)))]
    await asyncio.gather(*map(client, connections))
    return outcomes


async def _open_loop(spec: LoadSpec, rate: float) -> list[Outcome]:
    rng = random.Random(spec.seed)
    url = urlsplit(spec.url)

    async def arrival(index: int, request: bytes, due_s: float) -> Outcome:
        try:
            connection = await connect(url)
        except OSError:
            return _unreached(index, due_s)
        outcome = await _send(index, connection, request, due_s, spec.timeout_s)
        connection.close()
        return outcome

    due_s = perf_counter()
    tasks: list[asyncio.Task[Outcome]] = []
    for index, request in list(encoded(spec)):
        due_s += rng.expovariate(rate)
        await asyncio.sleep(max(0.0, due_s - perf_counter()))
        tasks.append(asyncio.create_task(arrival(index, request, due_s)))
    return await asyncio.gather(*tasks)


async def _send(index: int, connection: Connection, request: bytes, started_s: float, timeout_s: float) -> Outcome:
    try:
        async with asyncio.timeout(timeout_s):
            exchange = await connection.exchange(request, started_s)
    except TimeoutError:
        connection.close()
        return index, Exchange(started_s, ended_s=perf_counter()), "client_timeout"
    return index, exchange, exchange.outcome


def _unreached(index: int, started_s: float) -> Outcome:
    return index, Exchange(started_s, ended_s=perf_counter()), "unreachable"


def encoded(spec: LoadSpec) -> Iterator[tuple[int, bytes]]:
    """Each request with its number, as it is sent."""
    url = urlsplit(spec.url)
    path = url.path.rstrip("/") + ("/chat/completions" if spec.api == "chat" else "/completions")
    for index, prompt in enumerate(spec.prompts):
        body: dict[str, Any] = {
            "max_tokens": spec.max_tokens,
            "temperature": spec.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if spec.model is not None:
            body["model"] = spec.model
        if spec.api == "chat":
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["prompt"] = prompt
        yield index, http_request("POST", url, path, body | dict(spec.extra), spec.api_key)


def _row(index: int, exchange: Exchange, outcome: str, zero: float) -> Row:
    usage = exchange.tally.usage_tokens()
    contents = exchange.tally.contents
    first = exchange.read_times_s[0] if exchange.read_times_s else None
    return Row(
        index=index,
        outcome=outcome,
        status=exchange.status,
        start_s=exchange.started_s - zero,
        end_s=exchange.ended_s - zero,
        ttft_s=None if first is None else first - exchange.started_s,
        gaps_s=[round(gap, 7) for gap in exchange.gaps_s()],
        tokens=contents if usage is None else usage,
        usage_tokens=usage,
        cached_tokens=exchange.tally.cached_tokens() or 0,
        content_events=contents,
        events=exchange.tally.events,
        retry_after=exchange.retry_after,
    )


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def is_loopback(url: SplitResult) -> bool:
    """Whether `url` names this machine: `localhost` or a loopback address, without a look-up."""
    if url.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(url.hostname or "").is_loopback
    except ValueError:
        return False


def summary_table(summary: Summary, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("", *(f"p{p}" for p in PERCENTILES)):
        table.add_column(heading, justify="right" if heading else "left")
    for name in ("ttft_ms", "itl_ms", "e2e_ms"):
        values: dict[str, float] = getattr(summary, name)
        table.add_row(name, *(f"{values[f'p{p}']:.1f}" if values else "-" for p in PERCENTILES))
    outcomes = ", ".join(f"{name} {count}" for name, count in sorted(summary.outcomes.items()))
    table.caption_justify = "left"
    table.caption = (
        f"{summary.tokens_per_s:.1f} tokens/s, {summary.requests_per_s:.2f} requests/s, "
        f"{summary.tokens} tokens in {summary.wall_s:.2f} s; {outcomes}; "
        f"client CPU {summary.client_cpu_s:.2f} s"
        + (f"; Retry-After {summary.retry_after}" if summary.retry_after else "")
    )
    return table


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Load client for a server with OpenAI's API.")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1", help="base URL (default: %(default)s)")
    parser.add_argument("--allow-remote", action="store_true", help="allow a host other than this machine")
    parser.add_argument("--api", choices=("chat", "completions"), default="chat")
    loop = parser.add_mutually_exclusive_group()
    loop.add_argument("--clients", type=int, help="closed loop with this many clients (default: 1)")
    loop.add_argument("--rate", type=float, help="open loop: Poisson arrivals per second")
    parser.add_argument("--requests", type=int, default=16, help="requests in total (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0, help="of the prompts and of the arrivals")
    parser.add_argument("--model", help="`model` of the request (default: left out)")
    parser.add_argument("--api-key")
    parser.add_argument("--timeout-s", type=float, default=600.0, help="bound on one request")
    parser.add_argument("--extra-json", type=_json_object, default={}, help="merged into every request body")
    parser.add_argument("--out", type=Path, help="write summary and raw rows to this JSON file")
    return parser


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    url = urlsplit(options.url)
    if url.scheme not in ("http", "https") or not url.hostname:
        parser.error(f"--url must be an http(s) URL, not {options.url!r}")
    if not is_loopback(url) and not options.allow_remote:
        parser.error(f"{url.hostname} is not this machine: pass --allow-remote to send load there")
    if options.requests < 1 or (options.clients or 1) < 1 or (options.rate or 1) <= 0:
        parser.error("--requests, --clients and --rate must be positive")
    spec = LoadSpec(
        url=options.url,
        prompts=prompt_texts(options.requests, seed=options.seed),
        max_tokens=options.max_tokens,
        clients=options.clients or (None if options.rate else 1),
        rate=options.rate,
        api=options.api,
        temperature=options.temperature,
        seed=options.seed,
        model=options.model,
        api_key=options.api_key,
        timeout_s=options.timeout_s,
        extra=options.extra_json,
    )
    try:
        result = measure(spec)
    except OSError as error:
        print(f"cannot reach {options.url}: {error}", file=sys.stderr)
        return 1
    if options.out:
        report = {"summary": asdict(result.summary), "rows": [asdict(row) for row in result.rows]}
        options.out.write_text(json.dumps(report))
    if sys.stdout.isatty():
        Console().print(summary_table(result.summary, options.url))
    else:
        print(json.dumps(asdict(result.summary)))
    return 0 if set(result.summary.outcomes) == {"ok"} else 2


if __name__ == "__main__":
    sys.exit(main())
