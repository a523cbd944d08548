"""How a server starts: at once, with requests that wait for the model; or not at all, with one clear line."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.running.processes import lives
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body, wait_for

EXIT_MODEL = 3
EXIT_ADDRESS = 4


def loading_for(seconds: float) -> tuple[str, ...]:
    return ("--model-type", "scripted", "--model-path", f"scripted:load_s={seconds}")


def check_refused(server: Server, *parts: str, code: int = EXIT_MODEL) -> None:
    assert server.process.wait(60) == code, server.output()
    output = server.output()
    errors = [line for line in output.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1, output
    for part in parts:
        assert part in errors[0], output
    assert "Traceback" not in output
    assert "Ready" not in output


def test_requests_wait_while_the_model_loads(launch: Callable[..., Server]) -> None:
    server = launch(*loading_for(2), wait=False)
    server.wait_listening()
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(server.chat, "one two", stream=n % 2 == 1) for n in range(4)]
        server.wait_stats(waiting_requests=4, running_requests=0)
        assert server.get("/health/ready").status_code == 503
        assert [answer.result().status_code for answer in answers] == [200] * 4
    assert server.get("/health/ready").status_code == 200


def test_health_tells_of_loading_and_of_readiness(launch: Callable[..., Server]) -> None:
    started = time.monotonic()
    server = launch(*loading_for(2), "--model-name", "my/model", wait=False)
    server.wait_listening()
    health = server.get("/health")
    # A second, when nobody else uses the machine.
    assert time.monotonic() - started < 5
    assert health.status_code == 200
    assert (health.json()["status"], health.json()["model"]) == ("healthy", "my/model")
    assert health.json()["worker"] in ("starting", "loading")
    assert server.post("/health", b"").json().keys() == health.json().keys()
    assert server.get("/health/live").json() == {"status": "live"}
    ready = server.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
    assert server.get("/v1/models/my/model").json()["status"] in ("starting", "loading")
    server.wait_ready()
    assert server.get("/health/ready").json() == {"status": "ready", "worker": "ready"}
    assert server.get("/health").json()["worker"] == "ready"


def test_start_tells_what_was_loaded_and_how_to_try_it(launch: Callable[..., Server], tmp_path: Path) -> None:
    server = launch(*SCRIPTED, "--model-name", "org/[bold]name")
    lines = server.output().splitlines()
    assert any(line.startswith("org/[bold]name: loading weights") for line in lines)
    assert any(line.startswith("Ready: org/[bold]name (scripted, ") for line in lines)
    assert any(line.startswith(f"Listening on {server.root} ") for line in lines)
    [command] = [line for line in lines if line.lstrip().startswith("curl ")]
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["choices"], done


def test_model_that_the_worker_cannot_load_ends_the_command(launch: Callable[..., Server]) -> None:
    server = launch("--model-type", "scripted", "--model-path", "scripted:fail", wait=False)
    check_refused(server, "the script says that this model can't be loaded")
    assert server.worker_pids() == []


def test_worker_that_dies_while_it_loads_ends_the_command(launch: Callable[..., Server]) -> None:
    server = launch("--model-type", "scripted", "--model-path", "scripted:die", wait=False)
    check_refused(server, "The worker process exited with code 3")


def test_request_that_waits_for_a_model_which_cannot_be_loaded_is_answered(launch: Callable[..., Server]) -> None:
    server = launch(*loading_for(30), wait=False)
    server.wait_listening()
    with RawClient(server, chat_body("hi")) as client:
        server.wait_stats(waiting_requests=1)
        wait_for(server.worker_pids)
        [pid] = server.worker_pids()
        subprocess.run(["kill", "-9", str(pid)], check=True)
        assert client.status == 503
        client.read_until(b"model_unavailable")
    check_refused(server, "SIGKILL")


@pytest.mark.parametrize("path", ["/no/such/folder", "no-such-folder", "./models/none", "~/no-such-model.gguf"])
def test_missing_path_is_one_line(launch: Callable[..., Server], path: str) -> None:
    check_refused(launch("--model-path", path, wait=False), path, "does not exist")


def test_folder_that_is_no_model_is_one_line(launch: Callable[..., Server], tmp_path: Path) -> None:
    check_refused(launch("--model-path", tmp_path, wait=False), str(tmp_path), "no config.json")


def test_file_that_is_no_gguf_is_one_line(launch: Callable[..., Server], tmp_path: Path) -> None:
    text, fake = tmp_path / "model.txt", tmp_path / "model.gguf"
    for path in (text, fake):
        path.write_text("not a model")
    cache = ("--cache-dir", tmp_path / "cache")
    servers = {path: launch("--model-path", path, *cache, wait=False) for path in (text, fake)}
    check_refused(servers[text], str(text), "neither a model folder nor a .gguf file")
    check_refused(servers[fake], str(fake), "not a GGUF file")


def test_port_that_is_taken_is_one_line(launch: Callable[..., Server], scripted_server: Server) -> None:
    port = scripted_server.root.rpartition(":")[2]
    command = ("-m", "mlx_server.app", "launch", "--port", port)
    check_refused(launch(*SCRIPTED, command=command, wait=False), f"127.0.0.1:{port}", code=EXIT_ADDRESS)
    check_refused(launch(*SCRIPTED, "--host", "no.such.host.invalid", wait=False), "no.such.host", code=EXIT_ADDRESS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_the_model_loads_ends_the_command(launch: Callable[..., Server], number: signal.Signals) -> None:
    server = launch(*loading_for(60), wait=False)
    server.wait_listening()
    wait_for(server.worker_pids)
    pids = server.worker_pids()
    started = time.monotonic()
    assert server.stop(number) == 0
    assert time.monotonic() - started < 5
    assert not any(map(lives, pids))
