"""What the server logs: one line for a request, and never what was said."""

import json
import logging
import re
import sys
from collections.abc import Callable

from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body

from mlx_server.app.http.access_record import AccessRecord
from mlx_server.workers.log_lines import REQUEST_ID, LineFormatter, about

SECRET = "my-secret-prompt"


def lines_of(server: Server) -> list[tuple[str, str, str, str]]:
    """What the log has of requests: method, path, status and details."""
    line = r"(GET|POST) (/\S*) (\d+|left) \d+\.\d{3}s [0-9a-f]{32}(.*)$"
    return re.findall(line, server.output(), re.MULTILINE)


def test_every_request_leaves_one_line(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    server.chat("hi")
    server.chat("hi", n=99)
    server.get("/nothing")
    for path in ("/health", "/health/ready", "/metrics", "/v1/queue/stats"):
        server.get(path)
    asked = ("POST", "/v1/chat/completions")
    [(*answered, details), *refused] = lines_of(server)
    assert answered == [*asked, "200"]
    times = r"queue_s=\d\.\d+ first_token_s=\d\.\d+"
    assert re.fullmatch(rf" model=scripted in=1 cached=0 out=1 {times}", details)
    assert refused == [
        (*asked, "400", " error=invalid_request_error param=n"),
        ("GET", "/nothing", "404", " error=not_found"),
    ]


def test_line_tells_the_clients_address_for_debugging_only(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--log-level", "debug")
    server.chat("hi")
    told = {path: details for _, path, _, details in lines_of(server)}
    assert told["/v1/chat/completions"].startswith(" client=127.0.0.1 model=scripted ")
    assert told["/health/ready"] == " client=127.0.0.1"


def test_line_tells_how_fast_tokens_came(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    server.chat({"tokens": 11, "interval_s": 0.05}, stream=True)
    server.wait_until(lambda: lines_of(server))
    [(*_, details)] = lines_of(server)
    found = re.fullmatch(r" model=scripted in=\d+ cached=0 out=11 .* tokens_per_s=(\d+\.\d)", details)
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


def test_each_line_is_json_where_programs_read_it(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--log-format", "json")
    answered = server.chat("hi", stream=True).headers["x-request-id"]
    refused = server.chat("hi", n=99).headers["x-request-id"]
    server.wait_until(lambda: server.output().count("request_id") >= 2)
    lines = [json.loads(line) for line in server.output().splitlines()]
    assert {line["process"] for line in lines} <= {"server", "worker"}
    assert all(line.keys() >= {"time", "level", "process", "message"} for line in lines)
    access = {line["request_id"]: line for line in lines if line.get("path") == "/v1/chat/completions"}
    assert access[answered].items() >= {"status": 200, "model": "scripted", "in": 1, "out": 1}.items()
    assert access[answered].keys() >= {"seconds", "queue_s", "first_token_s"}
    assert access[refused].items() >= {"status": 400, "error": "invalid_request_error param=n"}.items()


def formatted(formatter: LineFormatter, **more: object) -> str:
    record = logging.LogRecord("x", logging.WARNING, __file__, 1, "it went %s", ("wrong",), None)
    record.__dict__.update(more)
    return formatter.format(record)


def test_lines_say_whose_request_they_are_about() -> None:
    ids = {1: "a", 2: "b"}
    text, as_json = (LineFormatter("worker", form, ids.get) for form in ("text", "json"))
    both = about([(1, 0), (1, 1), (2, 0), (3, 0)])
    assert formatted(text, **both).endswith(" WARNING worker it went wrong (request a, b)")
    assert json.loads(formatted(as_json, **both))["request_id"] == ["a", "b"]
    assert formatted(text).endswith("it went wrong")
    token = REQUEST_ID.set("mine")
    assert json.loads(formatted(as_json))["request_id"] == "mine"
    REQUEST_ID.reset(token)


def test_what_was_raised_is_part_of_the_line() -> None:
    try:
        raise ValueError("a line\nand another")
    except ValueError:
        line = formatted(LineFormatter("server", "json"), exc_info=sys.exc_info())
    assert line.count("\n") == 0
    assert "and another" in json.loads(line)["exception"]
