"""What the servers are compared by. Every function measures one server once; the caller takes them in turns."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import embeddings
import httpx
from lib.connection import Connection, Exchange, connect
from lib.grounded_work import requests
from lib.others import OthersWatch
from lib.peer_servers import Peer
from lib.prompts import prompt_texts
from lib.summary import Row, percentile
from load import LoadSpec, encoded, measure, run_in_loop, run_load

PREFIX_WORDS = 980
"""About 1,000 of SmolLM2's tokens."""

LONG_WORDS = 1_970
WARM_UP_WORDS = 500

STREAMS = 4
STREAM_TOKENS = 1_500
NEXT_STREAMS = 20
"""The streams' prompts: who ends early asks the next one."""

READS_BEFORE = 40
"""What each stream has read when the long prompt comes."""

COMES_WITHIN_S = 120.0
EMBEDDING_CLIENTS = 64
WARM_UP_TOKENS = 16
"""Of an answer in the round that is not counted."""


class PeerError(RuntimeError):
    """Raised when a server did not do what was to be measured."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure of one server in one round; `detail` is its raw record.

    `cores`: those that the server kept busy meanwhile, where that is known; `others_cores`: those that processes
    outside the benchmark kept busy.
    """

    scenario: str
    server: str
    round: int
    value: float
    detail: dict[str, Any]
    cores: float | None
    others_cores: float


def throughput(peer: Peer, clients: int, requests: int, max_tokens: int, number: int) -> tuple[float, dict[str, Any]]:
    """Tokens per second of a closed loop over prompts that this round sees first."""
    prompts = prompt_texts(requests, first=first_prompt(clients, requests, number))
    spec = LoadSpec(url=peer.url, prompts=prompts, max_tokens=max_tokens, clients=clients, model=peer.model)
    summary = measure(spec).summary
    check(peer, summary.outcomes)
    return summary.tokens_per_s, asdict(summary)


def first_prompt(clients: int, requests: int, number: int) -> int:
    """Which prompt a round begins with: no other round, nor one with other clients, has the same ones."""
    return 1000 * clients + number * requests


def prefix_hit(peer: Peer, number: int) -> tuple[float, dict[str, Any]]:
    """The time to the first token of a prompt whose long beginning is known, as a share of the first prompt's."""
    return share(*(one(peer, beginning(number, question), 4) for question in ("Who sings?", "What is old?")))


def beginning(number: int, question: str) -> str:
    """A long beginning of this round, and a question after it."""
    return f"{words(PREFIX_WORDS, seed=number)} {question}"


def share(miss: Row, hit: Row) -> tuple[float, dict[str, Any]]:
    """One request's time to the first token as a share of another's."""
    assert miss.ttft_s is not None
    assert hit.ttft_s is not None
    detail = {"miss_s": miss.ttft_s, "hit_s": hit.ttft_s, "cached_tokens": hit.cached_tokens}
    return hit.ttft_s / miss.ttft_s, detail


def arrival(peer: Peer, number: int) -> tuple[float, dict[str, Any]]:
    """The 95th percentile of running streams' gaps while a long prompt is read, over their median before that.

    A gap is what lies between two reads with text. The first round warms up, with a shorter prompt.
    """
    exchanges, came_s, long = run_in_loop(lambda: _arrival(peer, number))
    assert long.ttft_s is not None
    read_s = came_s + long.start_s + long.ttft_s
    reads = [pair for one in exchanges for pair in pairwise(one.read_times_s)]
    before = sorted(end - start for start, end in reads if end <= came_s)
    during = sorted(end - start for start, end in reads if end > came_s and start < read_s)
    if not before or not during:
        raise PeerError(f"{peer.name}: the streams did not run beside the long prompt")
    median, slow = percentile(before, 50), percentile(during, 95)
    detail = {"median_before_s": median, "p95_during_s": slow, "longest_s": during[-1], "long_ttft_s": long.ttft_s}
    return slow / median, detail


async def _arrival(peer: Peer, number: int) -> tuple[list[Exchange], float, Row]:
    """What streams read that run until a long prompt is answered, when that came, and its row."""
    url, texts = urlsplit(peer.url), prompt_texts(NEXT_STREAMS, first=number * NEXT_STREAMS)
    requests = (request for _, request in encoded(spec_of(peer, texts, STREAM_TOKENS, STREAMS)))
    connections = [await connect(url) for _ in range(STREAMS)]
    streams = [asyncio.create_task(_stream(one, requests)) for one in connections]
    try:
        await _under_way(peer, connections)
        came_s = perf_counter()
        text = words(LONG_WORDS if number else WARM_UP_WORDS, seed=1000 + number)
        long = await run_load(spec_of(peer, [text], 4, 1))
    finally:
        for one in connections:
            one.close()
        exchanges = [exchange for stream in await asyncio.gather(*streams) for exchange in stream]
    check(peer, long.summary.outcomes)
    return exchanges, came_s, long.rows[0]


async def _stream(connection: Connection, requests: Iterator[bytes]) -> list[Exchange]:
    """Ask one request after the other until the connection is closed."""
    exchanges = []
    while connection.usable:
        exchanges.append(await connection.exchange(next(requests)))
    return exchanges


async def _under_way(peer: Peer, connections: list[Connection]) -> None:
    """Return once every stream has read enough. Raises PeerError if one does not."""
    deadline = perf_counter() + COMES_WITHIN_S
    while any(one.current is None or len(one.current.read_times_s) < READS_BEFORE for one in connections):
        if perf_counter() > deadline or not all(one.usable for one in connections):
            raise PeerError(f"{peer.name}: the streams did not run")
        await asyncio.sleep(0.02)


def grounded(peer: Peer, number: int, kind: str) -> tuple[float, dict[str, Any]]:
    """Tokens per second of one answer that repeats what it is given. No schema is asked for: mlx_lm.server ignores it,
    and the others fail at it."""
    [body] = requests(kind, number, 1)
    body.pop("response_format", None)
    if peer.model is not None:
        body["model"] = peer.model
    if not number:
        body["max_tokens"] = WARM_UP_TOKENS
    began = perf_counter()
    try:
        answer = httpx.post(f"{peer.url}/chat/completions", json=body, timeout=3000).raise_for_status()
    except httpx.HTTPError as error:
        raise PeerError(f"{peer.name}: {str(error).splitlines()[0]}") from error
    seconds, told = perf_counter() - began, answer.json()
    detail = {"seconds": seconds, "usage": told["usage"], "text": told["choices"][0]["message"]["content"]}
    return told["usage"]["completion_tokens"] / seconds, detail


def sentences(peer: Peer, number: int) -> tuple[float, dict[str, Any]]:
    """Sentences per second of 64 clients with one each."""
    assert peer.model is not None
    server = embeddings.Server(urlsplit(peer.url), peer.model)
    texts = embeddings.sentences(4 * EMBEDDING_CLIENTS, seed=number)
    side = embeddings.measure(peer.name, server, texts, EMBEDDING_CLIENTS)
    return side.sentences_per_s, asdict(side)


def one(peer: Peer, text: str, max_tokens: int) -> Row:
    """One request alone."""
    result = measure(spec_of(peer, [text], max_tokens, 1))
    check(peer, result.summary.outcomes)
    return result.rows[0]


def spec_of(peer: Peer, prompts: list[str], max_tokens: int, clients: int) -> LoadSpec:
    """A closed loop on this server."""
    return LoadSpec(url=peer.url, prompts=prompts, max_tokens=max_tokens, clients=clients, model=peer.model)


def check(peer: Peer, outcomes: dict[str, int]) -> None:
    """Raises PeerError unless every request ended well: a figure of failures is none."""
    if set(outcomes) != {"ok"}:
        raise PeerError(f"{peer.name}: {outcomes}")


def words(count: int, seed: int) -> str:
    """Some text that no other seed begins with."""
    return " ".join(random.Random(seed).choices(embeddings.WORDS, k=count))


def watched(scenario: str, peer: Peer, number: int, work: Any) -> Measured:
    """The figure of one server in one round."""
    began, before = perf_counter(), peer.cpu_s()
    with OthersWatch() as busy:
        value, detail = work()
    after, seconds = peer.cpu_s(), perf_counter() - began
    cores = None if before is None or after is None else (after - before) / seconds
    return Measured(scenario, peer.name, number, value, detail, cores, busy.cores)
