"""Rate limits: off unless switched on, per key or address, and never for probes."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from support.running.servers import LAUNCH, SCRIPTED, Server, serving

from mlx_server.app.cli.launch_options import checked_rates
from mlx_server.app.http.keys import KeyRing
from mlx_server.app.middleware.rate_limit import EXEMPT, RateLimitMiddleware, client_of

HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


@pytest.fixture(scope="module")
def limited() -> Iterator[Server]:
    with serving(
        *SCRIPTED, "--rate-limit", "4/day", "--api-key", "one", "--api-key", "two", until=Server.wait_listening
    ) as server:
        yield server


def test_requests_beyond_the_limit_are_refused(limited: Server) -> None:
    answers = [limited.get("/v1/models", headers={"x-api-key": "one"}) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 2
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["3", "2", "1", "0", "0", "0"]
    refused = answers[-1]
    assert refused.headers["x-ratelimit-limit"] == "4"
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    assert refused.headers["x-request-id"]
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert re.search(r"\(4 per 1 day\): come again in \d+ s\.$", error["message"])
    assert limited.get("/v1/models", headers={"x-api-key": "two"}).status_code == 200, "each key has its own"


def test_wrong_keys_count_for_their_address_and_probes_not_at_all(limited: Server) -> None:
    for _ in range(6):
        assert limited.get("/health/live").status_code == 200
    answers = [limited.get("/api/nothing", headers={"x-api-key": f"wrong {n}"}) for n in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 4 + [429] * 2
    assert all(name in answer.headers for answer in answers for name in HEADERS)
    assert answers[-1].json().keys() == {"error", "detail", "details", "timestamp"}


def test_forwarded_addresses_are_not_believed(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--rate-limit", "2/day", wait=False)
    server.wait_listening()
    statuses = [server.get("/v1/models", headers={"X-Forwarded-For": f"10.0.0.{n}"}).status_code for n in range(4)]
    assert statuses == [200, 200, 429, 429]


def test_limits_are_off_unless_switched_on(scripted_server: Server) -> None:
    assert not any(name in scripted_server.get("/v1/models").headers for name in HEADERS)


def test_usual_limits_are_a_hundred_a_minute_in_bursts_of_ten(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, command=LAUNCH, env={"MLX_SERVER_RATE_LIMIT": "on"}, wait=False)
    server.wait_listening()
    assert server.get("/v1/models").headers["x-ratelimit-limit"] == "100"
    documented = server.get("/openapi.json").json()["paths"]["/v1/models"]["get"]["responses"]["429"]
    assert "Retry-After" in documented["headers"]


@pytest.mark.parametrize("rates", ["fast", "0/minute", "-1/second", "10", ""])
def test_rates_that_are_none_are_refused(rates: str) -> None:
    with pytest.raises(typer.BadParameter, match="100/minute"):
        checked_rates(rates)


def test_wrong_rates_end_the_command(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--rate-limit", "fast", wait=False)
    assert server.process.wait(30) == 2
    assert "--rate-limit" in server.output()


def limited_app(rates: str) -> TestClient:
    app = Starlette(
        routes=[
            Route("/", lambda _: PlainTextResponse("")),
            *(Route(path, lambda _: PlainTextResponse("")) for path in EXEMPT),
        ]
    )
    return TestClient(RateLimitMiddleware(app, KeyRing(()), rates))


def test_tightest_of_several_rates_holds() -> None:
    client = limited_app("100/day; 2/hour")
    answers = [client.get("/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-limit"] for answer in answers] == ["100", "100", "2"]


@pytest.mark.parametrize("path", EXEMPT)
def test_probes_are_never_limited(path: str) -> None:
    client = limited_app("1/day")
    assert [client.get(path).status_code for _ in range(3)] == [200] * 3


def test_memory_for_clients_is_bounded() -> None:
    inner = Starlette(routes=[Route("/", lambda _: PlainTextResponse(""))])
    app = RateLimitMiddleware(inner, KeyRing(()), "1/day", max_clients=10)
    statuses = [TestClient(app, client=(f"10.0.0.{number}", 1)).get("/").status_code for number in [*range(30), 29, 0]]
    assert statuses == [200] * 30 + [429, 200], "those that were quiet for longest start anew"
    assert len(app._clients) == 10
    assert len(app._limiter.storage.storage) <= 20


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("10.1.2.3", "address 10.1.2.3"),
        ("::ffff:10.1.2.3", "address 10.1.2.3"),
        ("2001:db8:1:2:3::4", "network 2001:db8:1:2::/64"),
        ("not an address", "host not an address"),
        (None, "host "),
    ],
)
def test_clients_without_keys_are_told_apart_by_address(host: str | None, client: str) -> None:
    scope: dict[str, Any] = {"headers": [(b"x-api-key", b"any")], "client": (host, 1) if host else None}
    assert client_of(scope, KeyRing(())) == client
