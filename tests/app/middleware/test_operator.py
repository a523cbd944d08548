"""What only the operator may do: not from elsewhere, not through a proxy, and never for a page in a browser."""

from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from mlx_server.app.config.settings import ApiKey, Settings
from mlx_server.app.http import errors
from mlx_server.app.http.keys import KeyRing
from mlx_server.app.middleware.api_key import ApiKeyMiddleware
from mlx_server.app.middleware.operator import is_loopback, is_own_name, operator_only

BASE = "http://127.0.0.1:8000"


@operator_only
async def stop(request: Request) -> Response:
    """Stops nothing."""
    return PlainTextResponse("stopped")


def client(peer: str = "127.0.0.1", base: str = BASE, *, key: ApiKey | None = None) -> TestClient:
    """A client that shows the key, if one is configured."""
    keys = [] if key is None else [key]
    app = Starlette(
        routes=[Route("/stop", stop, methods=["POST"])],
        exception_handlers=errors.HANDLERS,
        middleware=[Middleware(ApiKeyMiddleware, keys=KeyRing(keys))],
    )
    app.state.services = SimpleNamespace(settings=Settings())
    headers = {} if key is None else {"x-api-key": key.key}
    return TestClient(app, base, headers=headers, client=(peer, 5000))


@pytest.mark.parametrize(
    ("peer", "base"),
    [
        ("127.0.0.1", BASE),
        ("127.0.0.1", "http://localhost:8000"),
        ("127.9.9.9", BASE),
        ("::1", "http://[::1]:8000"),
        ("::ffff:127.0.0.1", BASE),
    ],
)
def test_operator_sits_at_the_machine(peer: str, base: str) -> None:
    assert client(peer, base).post("/stop").text == "stopped"
    assert client(peer, base).post("/stop", json={}).text == "stopped"
    assert client(peer, base).post("/stop", headers={"Origin": base, "Sec-Fetch-Site": "same-origin"}).text == "stopped"


@pytest.mark.parametrize("peer", ["10.0.0.1", "192.168.1.7", "2001:db8::1", "testclient"])
def test_others_need_a_key(peer: str) -> None:
    refused = client(peer).post("/stop")
    assert refused.status_code == 403
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("permission_error", "forbidden")
    assert "--api-key" in error["message"]
    assert client(peer, key=ApiKey("k")).post("/stop").text == "stopped", "the key was checked before this"


def test_a_key_may_be_no_operators() -> None:
    refused = client(key=ApiKey("k", operator=False)).post("/stop")
    assert refused.status_code == 403
    assert "operator" in refused.json()["detail"]


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_whoever_comes_through_a_proxy_needs_a_key(name: str) -> None:
    refused = client().post("/stop", headers={name: "127.0.0.1"})
    assert refused.status_code == 403
    assert "proxy" in refused.json()["detail"]


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[", "0.0.0.0"]
)
def test_name_that_was_made_to_lead_here_is_refused(host: str) -> None:
    refused = client().post("/stop", headers={"Host": host})
    assert refused.status_code == 403
    assert "Host" in refused.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "http://localhost:8000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_pages_of_other_sites_are_refused(headers: dict[str, str]) -> None:
    refused = client().post("/stop", headers=headers)
    assert refused.status_code == 403
    assert "other sites" in refused.json()["detail"]


@pytest.mark.parametrize("key", [None, ApiKey("k")])
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_body_that_a_form_could_send_is_refused(kind: str, key: ApiKey | None) -> None:
    refused = client(key=key).post("/stop", content=b"{}", headers={"Content-Type": kind})
    assert refused.status_code == 403
    assert "application/json" in refused.json()["detail"]
    accepted = client(key=key).post("/stop", content=b"{}", headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert accepted.text == "stopped"


def test_configured_host_is_an_own_name() -> None:
    assert is_own_name("mac.local:8000", "mac.local")
    assert is_own_name("192.168.1.7:8000", "192.168.1.7")
    assert not is_own_name("mac.local", "127.0.0.1")
    assert not is_own_name("0.0.0.0", "0.0.0.0")
    assert not is_own_name("[::]", "::")


@pytest.mark.parametrize("host", ["", "localhost", "128.0.0.1", "::2", "0.0.0.0"])
def test_other_addresses_are_no_loopback(host: str) -> None:
    assert not is_loopback(host)
