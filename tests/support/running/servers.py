"""A real `mlx-server launch` process on a free port."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[3]
LAUNCH = ("-m", "mlx_server.app", "launch", "--port", "0")
SCRIPTED = ("--model-type", "scripted", "--model-path", "scripted")
READY_S = 90.0
EXIT_S = 30.0


def chat_body(text: str | Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A chat completion's body; a mapping is a script for the scripted backend."""
    content = text if isinstance(text, str) else json.dumps(text)
    return {"messages": [{"role": "user", "content": content}], **more}


def wait_for(
    true: Callable[[], Any], timeout_s: float = READY_S, what: Callable[[], str] = str, every_s: float = 0.02
) -> None:
    """Poll until `true()` says so; `what` describes a failure."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(every_s)


class Server:
    """The command in a process of its own; its output is kept in a file. Use `url` with any client.

    `python`: the interpreter of another environment.
    """

    def __init__(
        self,
        *arguments: object,
        command: Sequence[str] = LAUNCH,
        env: Mapping[str, str] | None = None,
        python: str | Path = sys.executable,
    ) -> None:
        self._output = tempfile.NamedTemporaryFile("w+")  # noqa: SIM115 - lives as long as the server
        self._data = tempfile.TemporaryDirectory()
        self.data_dir = Path((env or {}).get("MLX_SERVER_DATA_DIR", self._data.name))
        """Where it keeps what clients asked to keep."""
        self.process = subprocess.Popen(
            [python, *command, *map(str, arguments)],
            stdout=self._output,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            # A standby is for the tests that want one: it would be one more process to be told from the workers.
            env={**os.environ, "MLX_SERVER_DATA_DIR": self._data.name, "MLX_SERVER_STANDBY": "false", **(env or {})},
        )
        self.root = ""
        # A connection for each request: the server is watched while it closes its connections.
        self.http = httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0))

    @property
    def url(self) -> str:
        """What an OpenAI client takes as its base URL."""
        return f"{self.root}/v1"

    def output(self) -> str:
        """All that the server and its worker have printed so far."""
        return Path(self._output.name).read_text()

    def wait_listening(self) -> None:
        """Wait until the front end answers."""
        deadline = time.monotonic() + READY_S
        while not self.root:
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            for connection in psutil.Process(self.process.pid).net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    self.root = f"http://127.0.0.1:{connection.laddr.port}"
            time.sleep(0.02)
        while True:
            assert time.monotonic() < deadline, self.output()
            with contextlib.suppress(httpx.TransportError):
                self.get("/health/live", timeout=1)
                return

    def wait_ready(self) -> None:
        """Wait until a worker takes work."""
        self.wait_listening()
        self.wait_until(lambda: self.get("/health/ready").status_code == 200)

    def wait_until(self, true: Callable[[], Any], timeout_s: float = READY_S) -> None:
        """Poll until `true()` says so; fails if the server ends first."""

        def true_or_ended() -> Any:
            assert self.process.poll() is None, self.output()
            try:
                return true()
            except httpx.TransportError:  # a server that ends stops listening first
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(EXIT_S)
                raise AssertionError(self.output()) from None

        wait_for(true_or_ended, timeout_s, lambda: f"{self.stats()}\n{self.output()}")

    def stats(self) -> dict[str, Any]:
        """`queue_stats` now."""
        return dict(self.get("/v1/queue/stats").json()["queue_stats"])

    def wait_stats(self, timeout_s: float = READY_S, **expected: Any) -> None:
        """Poll until `queue_stats` has these values."""
        self.wait_until(lambda: expected.items() <= self.stats().items(), timeout_s)

    def get(self, path: str, **more: Any) -> httpx.Response:
        """GET a path."""
        return self.http.get(f"{self.root}{path}", **more)

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        """POST JSON (or bytes as they are)."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.post(f"{self.root}{path}", content=content, **more)

    def chat(self, text: str | Mapping[str, Any], **more: Any) -> httpx.Response:
        """One chat completion; a mapping is a script for the scripted backend."""
        return self.post("/v1/chat/completions", chat_body(text, **more))

    def complete(self, prompt: Any, **more: Any) -> httpx.Response:
        """One text completion."""
        return self.post("/v1/completions", {"prompt": prompt, **more})

    def worker_pids(self) -> list[int]:
        """The worker processes that live; not what they have started themselves."""
        found: list[int] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                # Other programs are asked in passing, and may be gone by now.
                with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    if "mlx_server.workers" in child.cmdline():
                        found.append(child.pid)
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(EXIT_S)

    def close(self) -> None:
        """End it whatever it does."""
        if self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.http.close()
        self._output.close()
        self._data.cleanup()


@contextlib.contextmanager
def serving(*arguments: object, until: Callable[[Server], None] = Server.wait_ready, **how: Any) -> Iterator[Server]:
    """A server for as long as a block lasts, which begins when it is ready, or `until` returns."""
    server = Server(*arguments, **how)
    try:
        until(server)
        yield server
    finally:
        server.close()
