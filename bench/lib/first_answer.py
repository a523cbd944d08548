"""From a server's command line to the end of its first answer: time, processor time, memory."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from lib.processes import StartError, free_port, stop

PATIENCE_S = 300.0
POLL_S = 0.02
QUESTION = [{"role": "user", "content": "Name a colour."}]


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """`s` is wall time, `cpu_s` of all processes of the server, `worker_cpu_s` of the one that has the model;
    `peak_bytes` is what that one had resident at most."""

    s: float
    cpu_s: float
    worker_cpu_s: float
    peak_bytes: int
    text: str


def first_answer(command: Sequence[str], model: str, log: Path) -> FirstAnswer:
    """Start a server with `command` (without its port), ask it as soon as it listens, and stop it.

    Raises StartError if it ends or does not answer.
    """
    port = free_port()
    words = [*command, "--port", str(port)]
    began = time.perf_counter()
    with log.open("w") as out:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    try:
        answer = ask(f"http://127.0.0.1:{port}/v1/chat/completions", model, process, words, log)
        took = time.perf_counter() - began
        front = psutil.Process(process.pid)
        family = [front, *front.children(recursive=True)]
        spent = {one.pid: cpu_s(one) for one in family}
        worker = max(family, key=peak_bytes)
        text = str(answer["choices"][0]["message"]["content"])
        return FirstAnswer(took, sum(spent.values()), spent[worker.pid], peak_bytes(worker), text)
    finally:
        stop(process)


def ask(url: str, model: str, process: "subprocess.Popen[Any]", words: Sequence[str], log: Path) -> Any:
    """The answer to a short question, asked again while nobody listens."""
    body = json.dumps({"model": model, "messages": QUESTION, "max_tokens": 1, "temperature": 0}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StartError(words, f"ended with code {process.returncode}", log)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
                return json.load(response)
        except urllib.error.HTTPError:
            raise
        except (urllib.error.URLError, ConnectionError):
            time.sleep(POLL_S)
    raise StartError(words, "did not answer in time", log)


def cpu_s(process: psutil.Process) -> float:
    """Processor time so far, in seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)


def peak_bytes(process: psutil.Process) -> int:
    """What a process had resident at most (Linux tells)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
