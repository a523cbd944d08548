"""A server whose model holds its KV states in few bits, seen from outside."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.running.servers import Server

pytestmark = pytest.mark.model

CLIENTS = 8


def _texts(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("data: {"):
            yield from (choice["text"] for choice in json.loads(line[6:])["choices"])


def test_eight_streams_run_together_and_say_what_each_says_alone(launch: Callable[..., Server], smollm2: Path) -> None:
    server = launch("--model-path", smollm2, "--kv-bits", "8", "--max-concurrency", CLIENTS)
    assert "KV states of 30 layers are quantised" in server.output()
    assert "one request at a time" not in server.output()
    # Who began earlier writes for longer: all are there when the last begins.
    bodies = [
        {"prompt": " ".join(map(str, range(1, 20 + 3 * number))), "max_tokens": 60 - 6 * number, "temperature": 0}
        for number in range(CLIENTS)
    ]
    with ExitStack() as streams:
        said = []
        for body in bodies:
            response = streams.enter_context(
                server.http.stream("POST", f"{server.root}/v1/completions", json={**body, "stream": True})
            )
            assert response.status_code == 200
            said.append(_texts(response.iter_lines()))
        begun = [next(one) for one in said]
        assert server.stats()["rows_granted"] == CLIENTS
        together = [first + "".join(rest) for first, rest in zip(begun, said, strict=True)]
    for body, text in zip(bodies, together, strict=True):
        answer = server.post("/v1/completions", body).json()
        assert answer["choices"][0]["text"] == text
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
