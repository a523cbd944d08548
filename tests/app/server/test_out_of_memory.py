"""A worker that the system gives nothing more ends requests with an error, and the model is served again."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from support.running.servers import Server, chat_body
from support.tiny.models import WIDE, make_model

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="only Linux can limit another process"),
]

TOO_MUCH_BYTES = 1 << 30
"""What the worker's address space has more than it may: nothing is left, whatever its C library keeps for itself."""


def test_requests_end_with_an_error_while_there_is_no_memory_and_well_afterwards(
    launch: Callable[..., Server], tmp_path: Path
) -> None:
    server = launch("--model-path", make_model(tmp_path, "llama", **WIDE), "--max-concurrency", 2)
    server.chat("word " * 30, max_tokens=4).raise_for_status()
    [pid] = server.worker_pids()
    worker = psutil.Process(pid)
    worker.rlimit(resource.RLIMIT_AS, (worker.memory_info().vms - TOO_MUCH_BYTES, resource.RLIM_INFINITY))

    def ask(number: int) -> tuple[int, str]:
        body = chat_body(f"{number} " + "word " * 60, max_tokens=4)
        answer = server.post("/v1/chat/completions", body, timeout=300)
        return answer.status_code, answer.json().get("error", {}).get("message", "")

    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(ask, range(2)))
    # What the C library has kept of freed memory may be enough for one of them, or too little in the midst of a step.
    assert all(status in (200, 500, 502, 503) for status, _ in ends), ends
    assert any("OutOfMemoryError: the system leaves the worker" in message for _, message in ends), ends
    with contextlib.suppress(psutil.NoSuchProcess):
        worker.rlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    server.wait_until(lambda: server.chat("word " * 60, max_tokens=4).status_code == 200)
