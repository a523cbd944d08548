"""What the server itself costs, measured on its scripted backend, which emits tokens without a model."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from lib.connection import connect, http_request
from lib.pairs import Pair, Side, interleave, others_cores, spread, token_difference
from lib.processes import ServerProcess
from load import LoadResult, LoadSpec, measure, run_in_loop, run_load

CLIENTS = 32
SAMPLE_S = 0.05


@dataclass(frozen=True, slots=True)
class StreamingResult:
    """Pairs of bare Starlette and the server, and CPU microseconds per token of each process."""

    pairs: list[Pair]

    def figures(self) -> dict[str, Any]:
        details = [pair.server.detail for pair in self.pairs]
        tokens = sum(pair.server.tokens for pair in self.pairs)
        return {
            "clients": CLIENTS,
            "pairs": len(self.pairs),
            "baseline_tokens_per_s": asdict(spread([pair.baseline.tokens_per_s for pair in self.pairs])),
            "server_tokens_per_s": asdict(spread([pair.server.tokens_per_s for pair in self.pairs])),
            "ratio": asdict(spread([pair.ratio for pair in self.pairs])),
            "others_cores": others_cores(self.pairs),
            "token_difference": token_difference(self.pairs),
            "events_per_token": sum(detail["content_events"] for detail in details) / tokens,
            "server_events_per_s": asdict(spread([d["content_events"] / d["wall_s"] for d in details])),
            "front_end_us_per_token": sum(detail["front_cpu_s"] for detail in details) / tokens * 1e6,
            "worker_us_per_token": sum(detail["worker_cpu_s"] for detail in details) / tokens * 1e6,
            "client_us_per_token": sum(detail["client_cpu_s"] for detail in details) / tokens * 1e6,
            "failed": sum(sum(d["outcomes"].values()) - d["outcomes"].get("ok", 0) for d in details),
        }


def measure_streaming(
    pairs: int, tokens: int, bare: ServerProcess, server: ServerProcess, say: Callable[[str], None]
) -> StreamingResult:
    """Two requests of `tokens` tokens per client, in interleaved pairs, after a short warm-up of both."""
    for side in (bare, server):
        _stream(side, CLIENTS, tokens // 10)
    measured = interleave(
        pairs,
        lambda _: _side(bare, tokens),
        lambda _: _side(server, tokens),
        lambda pair: say(
            f"scripted, {CLIENTS} clients: bare Starlette {pair.baseline.tokens_per_s:.0f}, "
            f"server {pair.server.tokens_per_s:.0f} tokens/s"
        ),
    )
    return StreamingResult(measured)


def _side(server: ServerProcess, tokens: int) -> Side:
    front_s, worker_s = server.cpu_seconds()
    result = _stream(server, 2 * CLIENTS, tokens)
    front_end_s, worker_end_s = server.cpu_seconds()
    detail = asdict(result.summary) | {
        "front_cpu_s": round(front_end_s - front_s, 3),
        "worker_cpu_s": round(worker_end_s - worker_s, 3),
    }
    return Side(result.summary.tokens, result.summary.tokens_per_s, detail)


def script(tokens: int, interval_s: float = 0.0) -> str:
    """The user message that makes the scripted backend emit `tokens` tokens, one every `interval_s`."""
    return json.dumps({"tokens": tokens, "interval_s": interval_s})


def _spec(server: ServerProcess, requests: int, tokens: int, clients: int) -> LoadSpec:
    return LoadSpec(url=server.url, prompts=[script(tokens)] * requests, max_tokens=tokens, clients=clients)


def _stream(server: ServerProcess, requests: int, tokens: int) -> LoadResult:
    return measure(_spec(server, requests, tokens, CLIENTS))


def scripted_request(server: ServerProcess, tokens: int, interval_s: float = 0.0) -> bytes:
    url = urlsplit(server.url)
    body = {
        "messages": [{"role": "user", "content": script(tokens, interval_s)}],
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return http_request("POST", url, f"{url.path}/chat/completions", body)


@dataclass(frozen=True, slots=True)
class SlowReader:
    """A client that reads nothing for `held_s`, then everything. Memory is the front end's, resident.

    `neighbour_e2e_ms` is how long a request of 200 tokens by another client took in the meantime.
    """

    tokens: int
    held_s: float
    before_mib: float
    peak_held_mib: float
    peak_read_mib: float
    neighbour_e2e_ms: float
    received_tokens: int | None
    received_events: int
    outcome: str


def measure_slow_reader(server: ServerProcess, tokens: int, held_s: float) -> SlowReader:
    return run_in_loop(lambda: _slow_reader(server, tokens, held_s))


async def _slow_reader(server: ServerProcess, tokens: int, held_s: float) -> SlowReader:
    await run_load(_spec(server, 1, 2000, 1))
    before = server.rss_bytes()
    connection = await connect(urlsplit(server.url))
    connection.pause_reading()
    reading = asyncio.create_task(connection.exchange(scripted_request(server, tokens)))
    peak_held = await _peak_rss(server, held_s / 2, reading)
    neighbour = await run_load(_spec(server, 1, 200, 1))
    peak_held = max(peak_held, await _peak_rss(server, held_s / 2, reading))
    connection.resume_reading()
    peak_read = await _peak_rss(server, 600.0, reading)
    exchange = await reading
    connection.close()
    return SlowReader(
        tokens=tokens,
        held_s=held_s,
        before_mib=_mib(before),
        peak_held_mib=_mib(peak_held),
        peak_read_mib=_mib(peak_read),
        neighbour_e2e_ms=neighbour.summary.e2e_ms.get("p50", float("inf")),
        received_tokens=exchange.tally.usage_tokens(),
        received_events=exchange.tally.contents,
        outcome=exchange.outcome,
    )


async def _peak_rss(server: ServerProcess, seconds: float, until: "asyncio.Task[Any]") -> int:
    """The largest sample over `seconds`, or until the task has ended."""
    deadline = perf_counter() + seconds
    peak = server.rss_bytes()
    while perf_counter() < deadline and not until.done():
        await asyncio.sleep(SAMPLE_S)
        peak = max(peak, server.rss_bytes())
    return peak


def _mib(size: int) -> float:
    return round(size / 2**20, 2)
