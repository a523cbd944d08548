"""A worker that the system gives nothing more ends requests with an error, and the model is served again."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from support.running.servers import LAUNCH, Server, chat_body, wait_for
from support.tiny.models import WIDE, make_model

from mlx_server.workers.cgroup import OWN, ROOT, folders, limit_of

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="only Linux can limit another process"),
]

TOO_MUCH_BYTES = 1 << 30
"""What the worker's address space has more than it may: nothing is left, whatever its C library keeps for itself."""


AMPLE_BYTES, LITTLE_BYTES = 4 << 30, 8 << 20
ENDS = (200, 500, 502, 503)


@dataclass(frozen=True)
class Group:
    """A memory group below this process's own; `file` is what says its limit."""

    folder: Path
    file: Path

    def limit(self, nbytes: int) -> None:
        """Let it use no more. Raises OSError where the system can't take back what is too much."""
        self.file.write_text(str(nbytes))

    @property
    def used_bytes(self) -> int:
        """What can't be given back at once."""
        found = limit_of(self.folder)
        assert found is not None
        return found.used_bytes

    def starting(self, *command: str) -> tuple[str, ...]:
        """A command, as one whose processes are in the group."""
        return ("/bin/sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$0" "$@"', *command)


def group_of_our_own() -> Group | None:
    """A new one; None where this user may make none, or none with a limit."""
    mine = max(folders(ROOT, OWN.read_text(), "memory"), key=lambda folder: len(folder.parts))
    folder = mine / f"mlx-server-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        return None
    for file in (folder / "memory.limit_in_bytes", folder / "memory.max"):
        if file.exists():
            return Group(folder, file)
    folder.rmdir()
    return None


@pytest.fixture
def group() -> Iterator[Group | None]:
    """Where the system lets us have one; it goes with its last process."""
    made = group_of_our_own()
    yield made
    if made is not None:

        def gone() -> bool:
            with contextlib.suppress(OSError):
                made.folder.rmdir()
            return not made.folder.exists()

        wait_for(gone)


TELLS = """
from mlx_server.workers.allowance import Allowance
allowance = Allowance()
before = allowance.left_bytes()
kept = b"x" * (64 << 20)
print(before, before - allowance.left_bytes())
"""


def test_what_a_worker_may_still_take_is_what_its_limit_leaves(group: Group | None) -> None:
    if group is not None:
        group.limit(512 << 20)
        command = group.starting(sys.executable, "-c", TELLS)
    else:
        command = (sys.executable, "-c", f"import resource as r; r.setrlimit(r.RLIMIT_AS, (1 << 30, 1 << 30)){TELLS}")
    left, taken = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert 256 << 20 < left < 1 << 30
    assert 48 << 20 < taken < 96 << 20


def ends_of(server: Server, count: int) -> list[tuple[int, str]]:
    """Status and error of requests that are asked at once."""

    def ask(number: int) -> tuple[int, str]:
        body = chat_body(f"{number} " + "word " * 60, max_tokens=4)
        answer = server.post("/v1/chat/completions", body, timeout=300)
        return answer.status_code, answer.json().get("error", {}).get("message", "")

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


def test_requests_end_with_an_error_while_there_is_no_memory_and_well_afterwards(
    launch: Callable[..., Server], tmp_path: Path
) -> None:
    server = launch("--model-path", make_model(tmp_path, "llama", **WIDE), "--max-concurrency", 2)
    server.chat("word " * 30, max_tokens=4).raise_for_status()
    [pid] = server.worker_pids()
    worker = psutil.Process(pid)
    worker.rlimit(resource.RLIMIT_AS, (worker.memory_info().vms - TOO_MUCH_BYTES, resource.RLIM_INFINITY))

    ends = ends_of(server, 2)
    # What the C library has kept of freed memory may be enough for one of them, or too little in the midst of a step:
    # then the worker dies, and another one, which is not limited, answers.
    assert all(status in ENDS for status, _ in ends), ends
    refused = any("OutOfMemoryError: the system leaves the worker" in message for _, message in ends)
    assert refused or server.stats()["worker_restarts"], ends
    with contextlib.suppress(psutil.NoSuchProcess):
        worker.rlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    server.wait_until(lambda: server.chat("word " * 60, max_tokens=4).status_code == 200)


def test_each_request_ends_once_in_a_full_control_group_and_well_afterwards(
    group: Group | None, launch: Callable[..., Server], tmp_path: Path
) -> None:
    if group is None:
        pytest.skip("this user may make no control group with a limit: only the test with RLIMIT_AS tells something")
    group.limit(AMPLE_BYTES)
    shell, *command = group.starting(sys.executable, *LAUNCH)
    model = make_model(tmp_path, "llama", **WIDE)
    server = launch("--model-path", model, "--max-concurrency", 2, python=shell, command=command)
    server.chat("word " * 30, max_tokens=4).raise_for_status()
    [pid] = server.worker_pids()
    group.limit(group.used_bytes + LITTLE_BYTES)
    ends = ends_of(server, 2)
    assert all(status in ENDS for status, _ in ends), ends
    assert any(status != 200 for status, _ in ends), ends
    assert server.worker_pids() == [pid], "it refuses before the system kills it"
    group.limit(AMPLE_BYTES)
    server.wait_until(lambda: server.chat("word " * 60, max_tokens=4).status_code == 200)
