"""A worker under load holds no more than its model was granted, and all requests end well."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.running.metrics import value
from support.running.processes import most_while
from support.running.servers import Server, chat_body
from support.tiny.models import WIDE, make_model

pytestmark = pytest.mark.model

SLACK_BYTES = 48 << 20
"""What a worker may take beside for the length of a step that needs more than any before it."""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose KV states take 32 KB a token."""
    return make_model(tmp_path_factory.mktemp("wide"), "llama", **WIDE)


def test_worker_stays_within_its_grant_under_load(launch: Callable[..., Server], wide: Path) -> None:
    """Six prompts of 48 MB, each of which is worth keeping, where a worker without a bound may take most of what is
    free."""
    server = launch("--model-path", wide, "--max-concurrency", 2, "--memory-limit", "0.6")
    bound = value(server, "worker_memory_bound_bytes")
    assert 0.59 * (1 << 30) < bound <= 0.6 * (1 << 30)

    def ask(number: int) -> tuple[int, str]:
        body = chat_body(f"{number} " + "word " * 300, max_tokens=16)
        answer = server.post("/v1/chat/completions", body, timeout=300)
        return answer.status_code, answer.json()["choices"][0]["finish_reason"]

    with ThreadPoolExecutor(4) as pool:
        ends: list[tuple[int, str]] = []
        held = most_while(server, lambda: ends.extend(pool.map(ask, range(6))))
    assert {status for status, _ in ends} == {200}
    assert held <= bound + SLACK_BYTES
    assert value(server, "worker_restarts_total") == 0


def test_prompt_that_could_never_fit_is_refused_before_it_runs(launch: Callable[..., Server], wide: Path) -> None:
    server = launch("--model-path", wide, "--max-concurrency", 2, "--memory-limit", "0.6")
    answer = server.chat("word " * 6000, max_tokens=1)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", "messages")
    assert "the memory that it may have here does not hold more KV states" in error["message"]
