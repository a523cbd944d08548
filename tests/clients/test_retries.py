"""SDKs send again by themselves what failed: they don't where the same work would be done three times for nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import openai
import pytest
from support.running import sdks
from support.running.raw import RawClient
from support.running.servers import ROOT, SCRIPTED, Server, chat_body, serving

RETRIES = 2
"""What both SDKs do by default."""

HELD = {"first_token_s": 60}
NODE = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none" });
try {
  await client.chat.completions.create({ model: "m", messages: [{ role: "user", content: process.argv[3] }] });
} catch (error) {
  console.log(error.status);
}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(*SCRIPTED, "--max-concurrency", 1, "--queue-size", 1, "--queue-timeout", 1) as server:
        yield server


def by_openai(server: Server, text: str) -> int:
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=RETRIES) as client:
        try:
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
        except openai.APIStatusError as error:
            return error.status_code
    return 200


def by_anthropic(server: Server, text: str) -> int:
    with anthropic.Anthropic(base_url=server.root, api_key="none", max_retries=RETRIES) as client:
        try:
            client.messages.create(model="m", max_tokens=100, messages=[{"role": "user", "content": text}])
        except anthropic.APIStatusError as error:
            return error.status_code
    return 200


def by_node(server: Server, text: str) -> int:
    command = [sdks.node(), "--input-type=module", "-", server.url, text]
    done = subprocess.run(
        command, input=NODE, capture_output=True, text=True, timeout=60, cwd=ROOT / "tests" / "clients" / "node"
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout or 200)


CLIENTS: list[Callable[[Server, str], int]] = [by_openai, by_anthropic, by_node]


@pytest.mark.parametrize("ask", CLIENTS)
def test_request_that_has_run_out_of_time_is_not_sent_again(server: Server, ask: Callable[[Server, str], int]) -> None:
    before = server.stats()
    assert ask(server, json.dumps(HELD)) == 504
    after = server.stats()
    assert after["timed_out"] == before["timed_out"] + 1
    assert after["served"] == before["served"]


def test_request_that_kills_workers_is_not_sent_again(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    assert by_openai(server, json.dumps({"die_at": 1})) == 502
    assert server.stats()["failed"] == 1


@pytest.mark.parametrize("ask", [by_openai, by_anthropic])
def test_refused_request_is_sent_again_and_served(
    launch: Callable[..., Server], ask: Callable[[Server, str], int]
) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 1, "--queue-size", 0)
    assert server.chat("hi").status_code == 200, "it is known by now how long one takes"
    with ThreadPoolExecutor(1) as pool, RawClient(server, chat_body(HELD)) as client:
        server.wait_stats(running_requests=1)
        answer = pool.submit(ask, server, "hi")
        server.wait_stats(refused=1)
        client.leave()
        assert answer.result() == 200
    assert server.stats()["served"] == 2


def test_request_that_only_waited_may_be_sent_again(server: Server) -> None:
    with RawClient(server, chat_body({"tokens": 100, "interval_s": 0.1})):
        server.wait_stats(running_requests=1)
        answer = server.chat("hi")
    server.wait_stats(active_requests=0)
    assert answer.status_code == 504
    assert int(answer.headers["retry-after"]) >= 1
    assert "x-should-retry" not in answer.headers


@pytest.mark.parametrize(
    ("flag", "path", "body"),
    [("--request-timeout", "/v1/completions", {"prompt": "hi"}), ("--queue-timeout", "/tokenize", {"prompt": "hi"})],
    ids=["request", "question"],
)
def test_what_has_run_out_of_all_of_its_time_while_it_waited_is_not_sent_again(
    launch: Callable[..., Server], flag: str, path: str, body: Any
) -> None:
    server = launch("--model-type", "scripted", "--model-path", "scripted:load_s=3", flag, 1, wait=False)
    server.wait_listening()
    answer = server.post(path, body)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (504, "false")
    assert "retry-after" not in answer.headers
