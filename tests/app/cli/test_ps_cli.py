"""`mlx-server ps`, as a real command that asks real servers, and what it makes of their answers."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import msgspec
import psutil
import pytest
from rich.console import Console
from support.running.servers import ROOT, SCRIPTED, Server

from mlx_server.app.cli.ps_cli import span, table_of
from mlx_server.app.connect.running_server import (
    ManagerStatus,
    ModelLine,
    QueueState,
    ServerProblem,
    ask,
    lines_of,
    root_of,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LOADED = {
    "loaded_at": "2026-01-01T10:00:00",
    "last_used_at": "2026-01-01T11:59:00Z",
    "memory_usage_gb": 8.5,
    "config": {"model_type": "text-generation", "estimated_memory_gb": 8.5},
    "state": "restarting",
    "pids": [12, 13],
    "replicas": 2,
}


def ps(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlx_server.app", "ps", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, env={**os.environ, **env})


def lines(loaded: dict[str, Any], queues: dict[str, Any]) -> list[ModelLine]:
    status = msgspec.convert({"loaded_models": loaded, "queue_status": []}, ManagerStatus)
    return lines_of(status, msgspec.convert({"status": "ok", "models": queues}, QueueState), NOW)


def test_line_has_what_both_answers_say() -> None:
    status = msgspec.json.decode(json.dumps({"loaded_models": {"m": LOADED}}), type=ManagerStatus)
    queues = msgspec.convert({"models": {"m": {"running_requests": 2, "waiting_requests": 3}}}, QueueState)
    [line] = lines_of(status, queues, NOW)
    assert line == ModelLine("m", "lm", "restarting", (12, 13), 2, 8.5, 2, 3, 7200.0, 60.0)


def test_model_that_requests_wait_for_is_shown_before_it_is_loaded() -> None:
    waited_for = {"waiting_requests": 1, "running_requests": 0}
    found = lines({"b": {}}, {"a": waited_for, "b": {}, "c": {"waiting_requests": 0}})
    assert [(line.name, line.state, line.waiting, line.up_s) for line in found] == [
        ("a", "not loaded", 1, None),
        ("b", "loaded", 0, None),
    ]


def test_idle_time_begins_with_the_load_and_is_never_negative() -> None:
    [fresh] = lines({"m": {"loaded_at": "2026-01-01T11:00:00Z"}}, {})
    assert (fresh.up_s, fresh.idle_s) == (3600.0, 3600.0)
    [early] = lines({"m": {"loaded_at": (NOW + timedelta(seconds=5)).isoformat()}}, {})
    assert early.up_s == 0.0


def test_table_tells_people() -> None:
    console = Console(width=200, record=True)
    line = ModelLine("mlx-community/m[1]", None, "loaded", (12,), 1, 8.5, 0, 3, 7200.0, 60.0)
    console.print(table_of([line], console))
    shown = " ".join(console.export_text().split())
    assert "mlx-community/m[1] - loaded 8.5 GiB 0 3 2h 0m 1m 0s 12" in shown
    narrow = Console(width=60, record=True, force_terminal=True)
    narrow.print(table_of([line], narrow))
    assert any(
        text.split() == ["mlx-community/m[1]", "-", "loaded", "8.5", "GiB", "0"]
        for text in narrow.export_text().splitlines()
    ), "whole, without what does not fit"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0s"), (42.9, "42s"), (200, "3m 20s"), (7500, "2h 5m"), (349_200, "4d 1h")],
)
def test_times_have_two_units(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("http://h:1/v1", "http://h:1"),
        ("h:1", "http://h:1"),
        ("https://h/", "https://h"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_address_may_be_that_of_a_client(url: str, root: str) -> None:
    assert root_of(url) == root


@pytest.mark.parametrize("url", ["", "ftp://h", "http://", "http://h:port", "http://h:99999", "http://[::1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ServerProblem, match="is no address of a server: write http://HOST:PORT"):
        root_of(url)


def test_command_says_that_nobody_listens() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        done = ps("--url", f"http://127.0.0.1:{sock.getsockname()[1]}")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.count("\n") == 1
    assert "no server answers at http://127.0.0.1" in done.stderr
    assert "(Connection refused). Start one with `mlx-server launch`" in done.stderr


def test_command_tells_of_a_real_server(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--replicas", 2)
    server.wait_until(lambda: server.get("/v1/queue/stats").json()["queue_stats"]["workers"] == {"ready": 2})
    server.chat("hi")
    [model] = json.loads(ps("--url", server.root, "--json").stdout)
    workers = [child.pid for child in psutil.Process(server.process.pid).children()]
    assert sorted(model["pids"]) == sorted(workers)
    assert (model["model"], model["state"], model["replicas"]) == ("scripted", "loaded", 2)
    assert model["memory_gb"] > 0.01
    assert 0 <= model["idle_s"] <= model["up_s"]
    table = ps("--url", server.root)
    assert (table.returncode, "scripted" in table.stdout, "loaded" in table.stdout) == (0, True, True)


def test_command_says_that_a_key_is_needed(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--api-key", "secret", "--api-key", "other")
    server.wait_listening()
    done = ps("--url", server.url, MLX_SERVER_API_KEY="wrong")
    assert (done.returncode, done.stdout) == (5, "")
    assert f"{server.root} needs another key: give one of its own with --api-key." in done.stderr
    assert f"{server.root} needs a key: give one of its own with --api-key." in ps("--url", server.url).stderr


Answering = Callable[[dict[str, tuple[int, bytes]]], str]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """Starts a program that answers paths with a status and a body, as a server of another version might."""
    with ExitStack() as stack:

        def start(answers: dict[str, tuple[int, bytes]]) -> str:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    status, body = answers.get(self.path, (404, b"{}"))
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

                def log_request(self, *_: object) -> None:
                    """Say nothing."""

            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_address[1]}"

        yield start


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (404, b"{}", r"/v1/manager/status is not there: the server is another program, or older than this command"),
        (500, b"{}", r"answered with status 500"),
        (200, b"<html>", r"answered something else: is it an mlx-server\?"),
        (200, b"{}", r"answered something else"),
    ],
)
def test_other_programs_answers_are_one_line(answering: Answering, status: int, body: bytes, message: str) -> None:
    with pytest.raises(ServerProblem, match=message) as raised:
        ask(answering({"/v1/manager/status": (status, body)}), None, 10.0, NOW)
    assert "\n" not in str(raised.value)


def test_server_of_another_version_may_say_less(answering: Answering) -> None:
    answers = {
        "/v1/manager/status": (200, b'{"loaded_models": {"m": {"config": {"model_type": null}, "new": 1}}}'),
        "/v1/queue/stats": (200, b'{"status": "ok", "queue_stats": {}}'),
    }
    [line] = ask(answering(answers), None, 10.0, NOW)
    assert line == ModelLine("m", None, "loaded", (), 1, None, 0, 0, None, None)
