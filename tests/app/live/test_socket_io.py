"""Socket.IO with its own client, over both of its transports, and with what no such client would do."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import socketio
from socketio.exceptions import ConnectionError as Refused
from support.running.hub import LocalHub, Repo, running
from support.running.servers import SCRIPTED, Server, serving, wait_for

from mlx_server.app.live.listeners import MAX_MESSAGE_BYTES

TRANSPORTS = ["polling", "websocket"]
KEY = "secret-key"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AQIDBAUGBwgJCgsMDQ4PEA==",
}

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def keyed_server() -> Iterator[Server]:
    with serving(*SCRIPTED, "--api-key", KEY) as server:
        server.http.headers["x-api-key"] = KEY
        yield server


def hang_up(client: socketio.Client) -> None:
    """Close the socket that a client leaves to the garbage collector."""
    if client.eio.ws is not None:
        client.eio.ws.shutdown()


class Listener:
    """A client that keeps all it is told."""

    def __init__(self, server: Server, transport: str | None = None, query: str = "", **how: Any) -> None:
        self.told: list[tuple[str, Any]] = []
        self.session = requests.Session()
        self.client = socketio.Client(reconnection=False, http_session=self.session)
        self.client.on("*", lambda name, data: self.told.append((name, data)))
        self.client.connect(server.root + query, transports=[transport] if transport else None, wait_timeout=30, **how)

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        hang_up(self.client)
        self.session.close()

    def of(self, name: str) -> list[Any]:
        return [data for told, data in self.told if told == name]

    def wait(self, name: str) -> Any:
        wait_for(lambda: self.of(name))
        return self.of(name)[-1]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_listener_is_told_what_happens(scripted_server: Server, transport: str) -> None:
    with Listener(scripted_server, transport) as listener:
        assert listener.client.transport() == transport
        status = listener.wait("model_status")
        assert (status["model_id"], status["status"], status["error"]) == ("scripted", "loaded", None)
        assert scripted_server.chat({"tokens": 20}).status_code == 200
        wait_for(
            lambda: (listener.of("inference_stats") or [{"tokens_generated_total": 0}])[-1]["tokens_generated_total"]
        )
        stats = listener.wait("inference_stats")
        assert stats["models"]["scripted"]["tokens_generated_total"] == stats["tokens_generated_total"]
        metrics = listener.wait("hardware_metrics")
        assert metrics["process"]["pid"] == scripted_server.process.pid
        assert metrics.keys() >= {"timestamp", "cpu", "memory", "thermal", "metal", "process"}


def test_listener_is_told_of_models_that_come_and_go(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    with Listener(server, "websocket") as listener:
        listener.wait("model_status")
        for path in ("unload", "load"):
            assert server.post(f"/api/models/{path}", {"model_id": "scripted"}, headers=JSON).status_code == 200
        wait_for(lambda: listener.of("model_status")[-1]["status"] == "loaded" and len(listener.of("model_status")) > 4)
        moves = [status["status"] for status in listener.of("model_status") if status["phase"] is None]
        assert moves == ["loaded", "unloading", "unloaded", "loading", "loaded"]
        assert "importing" in [status["phase"] for status in listener.of("model_status")]


def test_listener_is_told_how_far_a_download_is(launch: Callable[..., Server], tmp_path: Path) -> None:
    repository = Repo("a/b", {"config.json": b"{}", "model.safetensors": b"w" * 2000})
    with running(LocalHub(repository)) as hub:
        server = launch(*SCRIPTED, env={"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path)})
        with Listener(server, "websocket") as listener:
            body = {"model_id": "a/b"}
            started = server.post("/api/models/download", body, headers=JSON)
            assert started.status_code == 200
            wait_for(lambda: listener.wait("download_progress")["status"] not in ("waiting", "downloading"))
            progress = listener.of("download_progress")
            assert {one["download_id"] for one in progress} == {started.json()["data"]["download_id"]}
            assert {one["model_id"] for one in progress} == {"a/b"}


def test_client_that_begins_with_polling_changes_to_a_websocket(scripted_server: Server) -> None:
    with Listener(scripted_server) as listener:
        wait_for(lambda: listener.client.transport() == "websocket")
        assert listener.wait("hardware_metrics")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "how",
    [
        {"auth": {"token": KEY}},
        {"auth": {"api_key": KEY}},
        {"headers": {"Authorization": f"Bearer {KEY}"}},
        {"headers": {"X-Api-Key": KEY}},
    ],
    ids=["token", "api_key", "bearer", "x-api-key"],
)
def test_listener_shows_a_key(keyed_server: Server, transport: str, how: dict[str, Any]) -> None:
    with Listener(keyed_server, transport, **how) as listener:
        assert listener.wait("model_status")["model_id"] == "scripted"


def test_listener_may_show_its_key_in_the_query(keyed_server: Server) -> None:
    with Listener(keyed_server, query=f"?token={KEY}") as listener:
        assert listener.wait("model_status")
    assert KEY not in keyed_server.output()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "how", [{}, {"auth": {"token": "wrong"}}, {"auth": {"token": 7}}, {"auth": {"token": "\ud800"}}], ids=repr
)
def test_listener_without_the_key_is_told_nothing(keyed_server: Server, transport: str, how: dict[str, Any]) -> None:
    said: list[Any] = []
    with requests.Session() as session:
        client = socketio.Client(reconnection=False, http_session=session)
        client.on("connect_error", said.append)
        client.on("*", lambda *told: said.append(told))
        with pytest.raises(Refused):
            client.connect(keyed_server.root, transports=[transport], wait_timeout=30, **how)
        hang_up(client)
    [refusal] = said
    assert "API key" in refusal["message"]


def test_pages_of_other_sites_may_not_listen(scripted_server: Server) -> None:
    for origin, status in (("http://evil.example", 403), ("null", 403), (scripted_server.root, 200)):
        answer = scripted_server.get("/socket.io/?EIO=4&transport=polling", headers={"Origin": origin})
        assert answer.status_code == status
        assert "access-control-allow-origin" not in answer.headers
    upgrade = {**UPGRADE, "Origin": "http://evil.example"}
    assert scripted_server.get("/socket.io/?EIO=4&transport=websocket", headers=upgrade).status_code == 403


def test_large_or_unmeasured_bodies_are_refused(keyed_server: Server) -> None:
    url = f"{keyed_server.root}/socket.io/?EIO=4&transport=polling&sid=none"
    for content in (b"x" * (MAX_MESSAGE_BYTES + 1), iter([b"x"])):
        answer = httpx.post(url, content=content)
        assert answer.status_code == 413
        assert "bytes" in answer.json()["detail"]


def test_attachments_are_not_collected(keyed_server: Server) -> None:
    url = f"{keyed_server.root}/socket.io/?EIO=4&transport=polling"
    session = httpx.get(url).text
    sid = session.split('"sid":"')[1].split('"')[0]
    answers = [
        httpx.post(f"{url}&sid={sid}", content=body) for body in ('451000-["x",{"_placeholder":true,"num":0}]', "bAAAA")
    ]
    assert all(answer.status_code == 200 for answer in answers)
    assert keyed_server.chat("still there").status_code == 200


def test_other_paths_know_no_websockets(scripted_server: Server) -> None:
    assert scripted_server.get("/health", headers=UPGRADE).status_code == 200


def test_client_that_reads_nothing_costs_little(scripted_server: Server) -> None:
    host, port = scripted_server.root.removeprefix("http://").split(":")
    fields = "".join(f"{name}: {value}\r\n" for name, value in {"Host": host, **UPGRADE}.items())
    head = f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n{fields}\r\n"
    ping = b"\x89\xfd\x00\x00\x00\x00" + b"x" * 125
    with socket.create_connection((host, int(port))) as deaf:
        deaf.settimeout(30)
        deaf.sendall(head.encode())
        assert b"101 " in deaf.recv(64)
        with pytest.raises(ConnectionError):
            deaf.sendall(ping * 200_000)


def test_server_with_listeners_stops_at_once(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    with Listener(server, "websocket") as first, Listener(server, "polling") as second:
        assert first.wait("model_status")
        assert second.wait("model_status")
        assert server.stop() == 0
        wait_for(lambda: not first.client.connected)
    assert "Traceback" not in server.output()
