"""Pages of other sites use the server in a browser, where they may."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import typer
from support.running.servers import SCRIPTED, Server, chat_body, serving

from mlx_server.app.cli.launch_options import checked_origins

PAGE = "http://localhost:3000"
OTHER = "https://elsewhere.example"
KEY = "a-key"
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    origins = ("--cors-origin", f"{PAGE}/", "--cors-origin", "https://ui.example")
    with serving(*SCRIPTED, "--api-key", KEY, *origins, "--rate-limit", "on") as server:
        yield server


def preflight(server: Server, origin: str, **more: str) -> dict[str, str]:
    """What a browser asks before the OpenAI SDK's request is sent; no key comes with it."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang,x-stainless-retry-count",
        **more,
    }
    answer = server.http.options(f"{server.root}{PATH}", headers=headers)
    return {"status": str(answer.status_code), **answer.headers}


def test_preflight_is_answered_without_a_key(server: Server) -> None:
    answer = preflight(server, PAGE, **{"Access-Control-Request-Private-Network": "true"})
    assert answer["status"] == "200"
    assert answer["access-control-allow-origin"] == PAGE
    assert answer["access-control-allow-private-network"] == "true"
    assert "POST" in answer["access-control-allow-methods"]
    assert {"authorization", "content-type", "x-stainless-lang", "x-stainless-retry-count"} <= set(
        answer["access-control-allow-headers"].replace(" ", "").split(",")
    )


def test_stream_and_its_headers_reach_the_page(server: Server) -> None:
    headers = {"Origin": PAGE, "Authorization": f"Bearer {KEY}"}
    body = chat_body({"tokens": 3}, stream=True, top_z=1)
    with server.http.stream("POST", f"{server.root}{PATH}", json=body, headers=headers) as answer:
        lines = list(answer.iter_lines())
    assert (answer.status_code, lines[-2]) == (200, "data: [DONE]")
    assert answer.headers["access-control-allow-origin"] == PAGE
    exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
    assert {"x-ignored-fields", "x-request-id", "retry-after", "x-ratelimit-remaining"} <= set(exposed)
    assert answer.headers["x-ignored-fields"] == "top_z"


def test_page_can_read_why_it_was_refused(server: Server) -> None:
    answer = server.post(PATH, chat_body("hi"), headers={"Origin": PAGE})
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == PAGE


def test_other_pages_stay_outside(server: Server) -> None:
    answer = preflight(server, OTHER)
    assert answer["status"] == "400"
    assert "access-control-allow-origin" not in answer
    headers = {"Origin": OTHER, "Authorization": f"Bearer {KEY}"}
    assert "access-control-allow-origin" not in server.post(PATH, chat_body("hi"), headers=headers).headers


def test_all_pages_may_come_without_credentials(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, env={"MLX_SERVER_CORS_ORIGIN": "*"})
    assert preflight(server, OTHER)["access-control-allow-origin"] == "*"
    answer = server.post(PATH, chat_body("hi"), headers={"Origin": OTHER, "Cookie": "a=b"})
    assert answer.headers.get("access-control-allow-credentials") is None
    assert answer.status_code == 200
    stop = server.post("/v1/system/shutdown", b"", headers={"Origin": OTHER})
    assert stop.status_code == 403, "what is the operator's stays the operator's"


def test_no_page_may_unless_it_was_said(scripted_server: Server) -> None:
    answer = preflight(scripted_server, PAGE)
    assert (answer["status"], "access-control-allow-origin" in answer) == ("405", False)


@pytest.mark.parametrize("origin", ["localhost:3000", "http://", "https://a.example/path", "https://*.example"])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no origin"):
        checked_origins([PAGE, origin])
