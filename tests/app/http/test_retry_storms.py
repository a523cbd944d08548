"""Clients that lose patience and ask again: what was read of their prompt is not read again."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.running.metrics import value
from support.running.raw import RawClient
from support.running.servers import Server, chat_body, serving

pytestmark = pytest.mark.model

LONG = "the quick brown fox jumps over the lazy dog " * 12
ENDLESS = {"stream": True, "max_tokens": 500, "temperature": 0, "logit_bias": {"2": -100}}
CLIENTS, TRIES = 8, 3


@pytest.fixture(scope="module")
def server(tiny_model: Callable[[str], Path]) -> Iterator[Server]:
    """A tiny model."""
    with serving("--model-path", tiny_model("llama"), "--max-concurrency", 2) as server:
        yield server
        output = server.output()
    assert "Traceback" not in output


def usage_of(server: Server, prompt: str) -> tuple[int, int]:
    """Tokens of a prompt, and how many of them were known."""
    usage = server.chat(prompt, max_tokens=1).raise_for_status().json()["usage"]
    return usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]


def test_retry_finds_the_prompt_that_was_read_for_a_client_that_left(server: Server) -> None:
    with RawClient(server, chat_body(f"read: {LONG}", **ENDLESS)) as client:
        client.read_until(b'"content"')
    server.wait_stats(active_requests=0)
    tokens, known = usage_of(server, f"read: {LONG}")
    assert known == tokens - 1


def test_each_client_of_a_storm_is_served_and_no_prompt_is_read_twice(server: Server) -> None:
    before = {name: value(server, name) for name in ("prompt_tokens_total", "cached_prompt_tokens_total")}

    def lose_patience(number: int) -> tuple[int, int]:
        body: dict[str, Any] = chat_body(f"{number}: {LONG}", **ENDLESS)
        for _ in range(TRIES):
            with RawClient(server, body) as client:
                client.read_until(b'"content"')
        return usage_of(server, f"{number}: {LONG}")

    with ThreadPoolExecutor(CLIENTS) as pool:
        found = list(pool.map(lose_patience, range(CLIENTS)))
    assert all(known == tokens - 1 for tokens, known in found)
    server.wait_stats(active_requests=0, rows_used=0)
    served = {name: value(server, name) - count for name, count in before.items()}
    assert served["cached_prompt_tokens_total"] == served["prompt_tokens_total"] - CLIENTS
