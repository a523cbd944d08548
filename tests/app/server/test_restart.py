"""The running server moves to another address, and goes by what clients have stored; the command line wins."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from support.running.servers import SCRIPTED, Server, chat_body
from support.running.stored import store

Launch = Callable[..., Server]
LAUNCH = ("-m", "mlx_server.app", "launch")
"""Without a port, so that it may be said elsewhere."""

CONFIG = '[server]\nport = {port}\n[[model]]\nname = "a"\npath = "scripted"\ntype = "scripted"\n'


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def listened_on(server: Server) -> list[tuple[str, int]]:
    found = psutil.Process(server.process.pid).net_connections("tcp")
    return [tuple(one.laddr) for one in found if one.status == psutil.CONN_LISTEN]


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_restart_moves_to_another_port_and_drops_nothing(launch: Launch, tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    config = tmp_path / "models.toml"
    config.write_text(CONFIG.format(port=first))
    server = launch("--config", config, command=LAUNCH)
    assert server.root.endswith(f":{first}")
    with httpx.Client(base_url=server.root, timeout=60) as connected, ThreadPoolExecutor(1) as pool:
        assert connected.get("/health/live").status_code == 200
        running = pool.submit(server.chat, {"tokens": 20, "interval_s": 0.05})
        server.wait_stats(running_requests=1)
        config.write_text(CONFIG.format(port=second))
        assert server.post("/v1/system/restart", b"").status_code == 200
        assert answers(second)
        assert not answers(first)
        assert connected.post("/v1/chat/completions", json=chat_body("hi")).status_code == 200, "the old connection"
        assert running.result().status_code == 200
    server.root = f"http://127.0.0.1:{second}"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = int(taken.getsockname()[1])
        config.write_text(CONFIG.format(port=busy))
        refused = server.post("/v1/system/restart", b"")
        assert refused.status_code == 500
        assert f"can't listen on 127.0.0.1:{busy}" in refused.json()["detail"]
        assert server.chat("hi").status_code == 200
        said = server.output().count(f"can't listen on 127.0.0.1:{busy}")
        server.process.send_signal(signal.SIGHUP)
        server.wait_until(lambda: server.output().count(f"can't listen on 127.0.0.1:{busy}") > said)
    assert server.post("/v1/system/restart", b"").status_code == 200, "the port is free now"
    assert answers(busy)
    assert server.stop() == 0


def test_restart_opens_the_port_to_all_interfaces_and_closes_it_again(launch: Launch, tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "models.toml"

    def restart(host: str) -> httpx.Response:
        config.write_text(CONFIG.format(port=port).replace("[server]", f'[server]\nhost = "{host}"'))
        return server.post("/v1/system/restart", b"")

    config.write_text(CONFIG.format(port=port))
    server = launch("--config", config, command=LAUNCH)
    warning = "anyone who reaches 0.0.0.0 may use this server"
    with httpx.Client(base_url=server.root, timeout=60) as connected:
        assert connected.get("/health/live").status_code == 200
        assert warning not in server.output()
        assert restart("0.0.0.0").status_code == 200
        assert warning in server.output()
        assert listened_on(server) == [("0.0.0.0", port)]
        assert server.get("/v1/settings").json()["bind_to_all_interfaces"] is True
        assert restart("127.0.0.1").status_code == 200
        assert listened_on(server) == [("127.0.0.1", port)]
        assert server.get("/v1/settings").json()["bind_to_all_interfaces"] is False
        assert connected.get("/health/live").status_code == 200, "the old connection"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems let a program listen beside another")
def test_address_that_another_program_has_in_part_leaves_the_old_one(launch: Launch, tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "models.toml"
    config.write_text(CONFIG.format(port=port))
    server = launch("--config", config, command=LAUNCH)
    config.write_text(CONFIG.format(port=port).replace("[server]", '[server]\nhost = "0.0.0.0"').replace('"a"', '"b"'))
    with socket.create_server(("127.0.0.2", port)):
        for _ in range(2):
            refused = server.post("/v1/system/restart", b"")
            assert refused.status_code == 500
            told = refused.json()["detail"]
            assert told.startswith(
                "The configuration was read again, and the address stays as it was: can't listen on 0"
            )
            assert server.get("/v1/settings").json()["bind_to_all_interfaces"] is False
            assert "anyone who reaches" not in server.output()
        server.wait_until(lambda: server.chat("hi", model="b").status_code == 200)
    assert server.post("/v1/system/restart", b"").status_code == 200, "the port is free now"
    assert listened_on(server) == [("0.0.0.0", port)]


def test_what_is_read_again_is_in_force_or_named_as_what_waits(launch: Launch, tmp_path: Path) -> None:
    config = tmp_path / "models.toml"
    model = '[[model]]\nname = "a"\npath = "scripted"\ntype = "scripted"\n'
    config.write_text(f"[server]\nkeepalive = 0\n{model}")
    server = launch("--config", config)
    config.write_text(f'[server]\nkeepalive = 0.1\ncors_origins = ["https://a.example"]\n{model}')
    assert server.post("/v1/system/restart", b"").json()["next_start"] == ["cors_origins"]
    assert "not before the next start: cors_origins" in server.output()
    assert server.get("/v1/system/limits").json()["cors_origins"] == []
    silent = chat_body({"first_token_s": 60}, stream=True)
    with server.http.stream("POST", f"{server.url}/chat/completions", json=silent, timeout=30) as answer:
        assert answer.status_code == 200, "it begins without a token"
    assert server.stop() == 0


def test_stored_settings_hold_at_the_start_and_after_a_restart(launch: Launch, tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    store(tmp_path, server_port=first, max_concurrent_requests=3)
    server = launch(*SCRIPTED, "--data-dir", tmp_path, command=LAUNCH)
    assert server.root.endswith(f":{first}")
    assert server.stats()["max_concurrency"] == 3
    put = server.http.put(f"{server.root}/v1/settings/server_port", json={"value": second})
    assert (put.status_code, put.json()["effect"]) == (200, "next_start")
    assert answers(first)
    server.process.send_signal(signal.SIGHUP)
    server.wait_until(lambda: answers(second))
    assert not answers(first)


@pytest.mark.parametrize("how", ["flag", "MLX_SERVER_PORT", "MLX_GUI_PORT"])
def test_command_line_and_environment_win_over_stored_settings(launch: Launch, tmp_path: Path, how: str) -> None:
    stored, given = free_port(), free_port()
    store(tmp_path, server_port=stored)
    flags: tuple[object, ...] = ("--port", given) if how == "flag" else ()
    env = {} if how == "flag" else {how: str(given)}
    server = launch(*SCRIPTED, "--data-dir", tmp_path, *flags, command=LAUNCH, env=env)
    assert server.root.endswith(f":{given}")
    assert server.post("/v1/system/restart", b"").status_code == 200
    assert answers(given)
    assert not answers(stored)
