"""What the server logs: one line for a request, and never what was said."""

import re
from collections.abc import Callable

from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body

from mlx_server.app.http.access_record import AccessRecord

SECRET = "my-secret-prompt"


def lines_of(server: Server) -> list[tuple[str, str, str, str]]:
    """What the log has of requests: method, path, status and details."""
    line = r"(GET|POST) (/\S*) (\d+|left) \d+\.\d{3}s [0-9a-f]{32}(.*)$"
    return re.findall(line, server.output(), re.MULTILINE)


def test_prompts_and_answers_are_never_logged(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--log-level", "debug")
    script = {"text": SECRET}
    server.chat(script, user=SECRET, metadata={SECRET: SECRET}, unknown=SECRET)
    for end in ({}, {"raise_at": 3}, {"crash_at": 3}):
        server.chat({**script, **end}, stream=True)
    server.chat(SECRET, stop=SECRET, temperature=99)
    server.complete(SECRET, model=SECRET)
    assert SECRET not in server.output()


def test_every_request_leaves_one_line(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    server.chat("hi")
    server.chat("hi", n=99)
    server.get("/nothing")
    for path in ("/health", "/health/ready", "/metrics", "/v1/queue/stats"):
        server.get(path)
    asked = ("POST", "/v1/chat/completions")
    assert lines_of(server) == [
        (*asked, "200", " model=scripted in=1 cached=0 out=1"),
        (*asked, "400", " error=invalid_request_error param=n"),
        ("GET", "/nothing", "404", " error=not_found"),
    ]


def test_line_tells_how_fast_tokens_came(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    server.chat({"tokens": 11, "interval_s": 0.05}, stream=True)
    server.wait_until(lambda: lines_of(server))
    [(*_, details)] = lines_of(server)
    found = re.fullmatch(r" model=scripted in=\d+ cached=0 out=11 tok/s=(\d+\.\d)", details)
    assert found is not None, details
    assert 2 < float(found[1]) <= 21


def test_stream_that_failed_is_not_logged_as_a_success(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    for script in ({"raise_at": 3}, {"crash_at": 3}):
        assert server.chat({"tokens": 9, **script}, stream=True).status_code == 200
    server.wait_until(lambda: len(lines_of(server)) == 2)
    raised, crashed = lines_of(server)
    assert (raised[2], raised[3].split()[-1]) == ("500", "error=engine_error")
    assert (crashed[2], crashed[3].split()[-1]) == ("502", "error=worker_lost")
    assert "out=" in raised[3]


def test_client_that_left_within_a_stream_is_logged_as_one_that_left(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    with RawClient(server, chat_body({"tokens": 1000, "interval_s": 0.02}, stream=True)) as client:
        client.read_until(b"token ")
        client.leave()
    server.wait_until(lambda: lines_of(server))
    assert lines_of(server)[0][2] == "left"


def test_names_that_clients_make_up_are_not_logged() -> None:
    record = AccessRecord()
    record.failed(400, "invalid_request_error", f"metadata.{SECRET}")
    assert record.details() == " error=invalid_request_error param=metadata"
    record.failed(400, "unknown_parameter", "secret")
    assert record.details() == " error=unknown_parameter"
    record.model = f"a\n{SECRET}"
    assert record.details() == f" model=a%0A{SECRET} error=unknown_parameter"


def test_hosts_of_clients_urls_are_not_logged(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--log-level", "debug")
    picture = {"type": "image_url", "image_url": "http://secret.invalid/a.png"}
    asked = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": [picture]}]})
    assert (asked.status_code, "no public address" in asked.text) == (400, True)
    server.wait_until(lambda: "/v1/chat/completions" in server.output())
    assert "secret.invalid" not in server.output()


def test_line_of_a_request_cannot_be_forged(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    assert server.get("/a%0d%0aINFO forged%1b[31m").status_code == 404
    server.wait_until(lambda: "404" in server.output())
    assert not re.search(r"^INFO forged", server.output(), re.MULTILINE)
    assert "\x1b" not in server.output()
