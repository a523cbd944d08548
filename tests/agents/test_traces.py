"""Recorded sessions of coding agents, on a template that takes anything and one that wants the system first."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.running.oracles import ENVIRONMENT, Kind, make_oracle
from support.running.servers import Server, serving

TRACES = sorted((Path(__file__).parent / "traces").glob("*.jsonl.gz"))
LEAST_KNOWN = 0.9
"""Share of a turn's prompt that the next turn must find known."""


def rows_of(trace: Path) -> list[dict[str, Any]]:
    """The requests of a session, in order."""
    return [json.loads(line) for line in gzip.decompress(trace.read_bytes()).splitlines()]


def turns_of(trace: Path) -> list[dict[str, Any]]:
    """Those of its conversation proper: titles and the like are asked for without tools, or with fewer."""
    rows = rows_of(trace)
    most = max(len(row["body"].get("tools") or ()) for row in rows)
    return [row for row in rows if len(row["body"].get("tools") or ()) == most]


@pytest.fixture(scope="module", params=["lenient", "strict"])
def server(request: pytest.FixtureRequest, smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kind: Kind = request.param
    model = make_oracle(smollm2, tmp_path_factory.mktemp(kind), kind)
    with serving("--model-path", model, env=ENVIRONMENT) as server:
        yield server


def answered(server: Server, row: dict[str, Any], tenant: str) -> tuple[str, int, int]:
    """Send a request as it was, but that every stream tells its usage; gives the answer's text, the prompt's tokens and
    those of them that were known."""
    headers = {"Authorization": f"Bearer {tenant}", "Content-Type": "application/json"}
    body = dict(row["body"])
    if row["path"].endswith("/chat/completions") and body.get("stream"):
        body.setdefault("stream_options", {"include_usage": True})
    answer = server.post(row["path"], body, headers=headers)
    assert answer.status_code == 200, answer.text
    said = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    events = [json.loads(line) for line in said or [answer.text]]
    assert not any(event.get("type") == "error" or event.get("error") for event in events)
    usages = [found for event in events if (found := usage_in(event))]
    return answer.text, *counts(usages[-1])


def usage_in(event: dict[str, Any]) -> dict[str, Any] | None:
    """An event's usage, wherever its API has it."""
    return event.get("usage") or (event.get("response") or event.get("message") or {}).get("usage")


def counts(usage: dict[str, Any]) -> tuple[int, int]:
    """A prompt's tokens, and those of them that were known."""
    if "prompt_tokens" in usage:
        return usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]
    if "input_tokens_details" in usage:
        return usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"]
    known = usage["cache_read_input_tokens"]
    return usage["input_tokens"] + known, known


@pytest.mark.model
@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.name.partition(".")[0])
def test_session_is_served_and_each_turn_knows_the_one_before(server: Server, trace: Path) -> None:
    before = 0
    for row in turns_of(trace):
        _, prompt, known = answered(server, row, trace.name)
        assert known >= LEAST_KNOWN * before
        before = prompt
    assert before


@pytest.mark.model
@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.name.partition(".")[0])
def test_everything_else_that_an_agent_asks_is_served(server: Server, trace: Path) -> None:
    turns = turns_of(trace)
    for row in rows_of(trace):
        if row not in turns:
            answered(server, row, trace.name)


def test_traces_have_tool_loops_of_three_turns() -> None:
    loops = {trace.name.partition(".")[0]: len(turns_of(trace)) for trace in TRACES}
    recorded = {"claude-code", "codex", "opencode", "qwen-code", "cline", "continue", "pi", "mini-swe-agent"}
    assert loops.keys() >= recorded | {"openai-agents", "smolagents"}
    # Aider uses no tools, and asks once.
    assert loops.pop("aider") == 1
    assert all(length >= 3 for length in loops.values())
