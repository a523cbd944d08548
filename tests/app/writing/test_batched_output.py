"""Requests that run together say what mlx-lm says to each alone."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import support.unbatched
from support.running.servers import Server

from mlx_server.workers.parent.environment import child_environment

SURE = 1e-3
"""Top-2 margin in nats from which on rounding, which depends on a batch's shape, must not choose another token."""

ROWS = 4
"""So many of them run at once."""

REQUESTS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 8},
    {"messages": [{"role": "user", "content": "Count to five."}], "max_tokens": 8},
    {
        "messages": [{"role": "system", "content": "You are a pirate."}, {"role": "user", "content": "Who are you?"}],
        "max_tokens": 8,
    },
    {"messages": [{"role": "user", "content": "Name three colours. " * 6}], "max_tokens": 8},
    {"prompt": "The quick brown fox", "max_tokens": 8},
    {"prompt": "def fibonacci(n):\n", "max_tokens": 8},
    {"prompt": "In the beginning", "max_tokens": 4},
    {"prompt": "1, 2, 3, 4, 5,", "max_tokens": 12},
]


def unbatched(folder: Path) -> list[list[tuple[str, float]]]:
    script = str(support.unbatched.__file__)
    done = subprocess.run(
        [sys.executable, script, folder],
        input=json.dumps(REQUESTS),
        capture_output=True,
        text=True,
        env=child_environment(),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def batched(server: Server, request: dict[str, Any]) -> str:
    path = "/v1/chat/completions" if "messages" in request else "/v1/completions"
    [choice] = server.post(path, {**request, "temperature": 0}).json()["choices"]
    return choice["message"]["content"] if "message" in choice else choice["text"]


def margin_where_they_part(text: str, reference: list[tuple[str, float]]) -> float | None:
    """The reference's margin at the first token that the other text does not have; None if they are equal."""
    for so_far, margin in reference:
        if not text.startswith(so_far):
            return margin
    last, margin_of_the_end = reference[-1]
    return None if text == last else margin_of_the_end


@pytest.mark.model
def test_eight_clients_at_once_get_what_mlx_lm_says_to_each_alone(smollm2_server: Server, smollm2: Path) -> None:
    with ThreadPoolExecutor(len(REQUESTS)) as clients:
        asked = [clients.submit(batched, smollm2_server, request) for request in REQUESTS]
        smollm2_server.wait_stats(running_requests=ROWS)
        texts = [one.result() for one in asked]
    for request, text, reference in zip(REQUESTS, texts, unbatched(smollm2), strict=True):
        # mlx-lm drops the space that a continued text begins with.
        margin = margin_where_they_part(text.removeprefix(" ") if "prompt" in request else text, reference)
        if margin is not None:
            print(f"differs at a margin of {margin:.2g} nats: {text!r}, {reference[-1][0]!r}")
            assert margin < SURE
