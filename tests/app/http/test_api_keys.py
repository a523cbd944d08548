"""API keys: with none configured anybody may ask, with some only their holders."""

import os
from collections.abc import Callable, Iterator

import openai
import pytest
from support.running.clients import sdk
from support.running.servers import LAUNCH, SCRIPTED, Server, chat_body, serving

KEYS = ("first-key", "sécond-kéy")
PROTECTED = [("GET", "/v1/models"), ("GET", "/v1/queue/stats"), ("GET", "/metrics"), ("GET", "/no/such/path")]
OPEN = ["/health", "/health/live", "/health/ready"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(*SCRIPTED, "--api-key", KEYS[0], "--api-key", KEYS[1]) as server:
        yield server


def status(server: Server, **headers: str) -> int:
    encoded = {name.replace("_", "-"): text.encode() for name, text in headers.items()}
    return server.post("/v1/chat/completions", chat_body("hi"), headers=encoded).status_code


@pytest.mark.parametrize("key", KEYS)
def test_every_configured_key_is_accepted_in_both_headers(server: Server, key: str) -> None:
    assert status(server, authorization=f"Bearer {key}") == 200
    assert status(server, authorization=f"bearer  {key}") == 200
    assert status(server, x_api_key=key) == 200
    assert status(server, authorization="Bearer wrong", x_api_key=key) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer"},
        {"authorization": KEYS[0]},
        {"authorization": f"Basic {KEYS[0]}"},
        {"authorization": f"Bearer {KEYS[0]}x"},
        {"authorization": f"Bearer {KEYS[0][:-1]}"},
        {"x-api-key": ""},
        {"x-api-key": f"{KEYS[0]}, {KEYS[1]}"},
        {"x-api-key": "ÿ"},
    ],
    ids=str,
)
def test_other_keys_are_refused(server: Server, headers: dict[str, str]) -> None:
    encoded = {name: text.encode() for name, text in headers.items()}
    answer = server.post("/v1/chat/completions", b"not even JSON", headers=encoded)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-request-id"]
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("authentication_error", "invalid_api_key", None)
    assert error["message"] == answer.json()["detail"]
    assert KEYS[0] not in answer.text


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_everything_but_health_is_protected(server: Server, method: str, path: str) -> None:
    assert server.http.request(method, server.root + path).status_code == 401
    allowed = server.http.request(method, server.root + path, headers={"x-api-key": KEYS[0]})
    assert allowed.status_code == (404 if "no/such" in path else 200)


@pytest.mark.parametrize("path", OPEN)
def test_health_stays_open(server: Server, path: str) -> None:
    assert server.get(path).status_code == 200


def test_sdk_raises_an_authentication_error(server: Server) -> None:
    with sdk(server, api_key=KEYS[0]) as client:
        assert client.models.list().data
    with sdk(server, api_key="wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model="any", messages=[{"role": "user", "content": "hi"}])
    assert (caught.value.status_code, caught.value.code) == (401, "invalid_api_key")
    assert caught.value.request_id


def test_keys_are_never_logged(server: Server) -> None:
    assert not [key for key in (*KEYS, "wrong") if key in server.output()]


def test_without_keys_any_or_none_is_accepted(scripted_server: Server) -> None:
    for headers in ({}, {"authorization": "Bearer any"}, {"x-api-key": "any"}, {"authorization": "Basic x"}):
        assert status(scripted_server, **headers) == 200


def test_keys_come_from_the_environment_separated_by_spaces(launch: Callable[..., Server]) -> None:
    assert "MLX_SERVER_API_KEY" not in os.environ
    server = launch(*SCRIPTED, command=LAUNCH, env={"MLX_SERVER_API_KEY": "one two"}, wait=False)
    server.wait_listening()
    assert server.get("/v1/models").status_code == 401
    for key in ("one", "two"):
        assert server.get("/v1/models", headers={"x-api-key": key}).status_code == 200


def test_empty_key_is_refused(launch: Callable[..., Server]) -> None:
    # `--api-key "$UNSET"` must not open the server to everybody.
    server = launch(*SCRIPTED, "--api-key", "", wait=False)
    assert server.process.wait(30) == 2
    assert "--api-key" in server.output()
