"""The processes that a benchmark starts, each a context manager that stops what it started, by its id."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import psutil

BENCH = Path(__file__).parents[1]
START_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 60.0
TROUBLE = re.compile(r"\b(?:ERROR|CRITICAL)\b|Traceback")


class StartError(Exception):
    """Raised when a process ends or stays silent before it is ready; shows the end of its log."""

    def __init__(self, command: Sequence[str], why: str, log: Path) -> None:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        super().__init__(f"{' '.join(command)}: {why}\n{tail}")


class ServerProcess:
    """A server on a free loopback port, ready when its `ready_path` answers 200; logs go to `log`.

    `command` is the command line without `--port`.
    """

    def __init__(self, command: Sequence[str], log: Path, ready_path: str = "/health/ready") -> None:
        self._port = free_port()
        self._command = [*command, "--port", str(self._port)]
        self.log = log
        self._ready_path = ready_path
        self.url = f"http://127.0.0.1:{self._port}/v1"
        self.exit_code: int | None = None

    def __enter__(self) -> Self:
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL only when that does not end it in time."""
        self.exit_code = stop(self._process)

    @property
    def pid(self) -> int:
        """The launched process: the front end."""
        return self._process.pid

    def rss_bytes(self) -> int:
        """Resident memory of the launched process alone: the front end, not its workers."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def children(self) -> list[psutil.Process]:
        """All that the launched process has started, and what these have started."""
        return psutil.Process(self._process.pid).children(recursive=True)

    def cpu_seconds(self) -> tuple[float, float]:
        """CPU time so far of the launched process, and of all its living descendants together."""
        front = psutil.Process(self._process.pid)
        return _cpu_s(front), sum(_cpu_s(child) for child in front.children(recursive=True))

    def _wait_ready(self) -> None:
        url = f"http://{urlsplit(self.url).netloc}{self._ready_path}"
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise StartError(self._command, f"ended with code {self._process.returncode}", self.log)
            if _answers_200(url):
                return
            time.sleep(0.1)
        raise StartError(self._command, "not ready in time", self.log)


class EngineProcess:
    """`engine.py`, or a `script` like it, kept loaded behind its line protocol, in the worker's environment."""

    def __init__(self, model: Path, environment: Mapping[str, str], log: Path, script: str = "engine.py") -> None:
        self._command = [sys.executable, str(BENCH / script), str(model)]
        self._environment = dict(environment)
        self._log = log
        self.facts: dict[str, Any] = {}

    def __enter__(self) -> Self:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            self.facts = self._read()
        except BaseException:
            stop(self._process)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        stop(self._process)

    def ask(self, command: str, *numbers: int) -> Any:
        """Sends one command of the line protocol and returns the decoded answer."""
        assert self._process.stdin is not None
        print(command, *numbers, file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise StartError(self._command, "ended", self._log)
        return json.loads(line)


def troubles(log: Path) -> list[str]:
    """Lines of a log that report an error or start a traceback."""
    return [line for line in log.read_text(errors="replace").splitlines() if TROUBLE.search(line)]


def stop(process: "subprocess.Popen[Any]") -> int:
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _answers_200(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
