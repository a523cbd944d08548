"""What the server logs: one line for a request, and never what was said."""

import re
from collections.abc import Callable

from support.servers import SCRIPTED, Server

SECRET = "my-secret-prompt"


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
    lines = re.findall(r"(GET|POST) (/\S*) (\d+) \d+\.\d{3}s [0-9a-f]{32}$", server.output(), re.MULTILINE)
    assert lines == [
        ("POST", "/v1/chat/completions", "200"),
        ("POST", "/v1/chat/completions", "400"),
        ("GET", "/nothing", "404"),
    ]


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
