"""A client that has said all that it has to say may close its side, and is answered; one that has left is not."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest
from support.running.raw import CHAT, RawClient, connect, http_request
from support.running.servers import Server, chat_body

SOON_S = 2.0
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SLOW: dict[str, Any] = {"tokens": 3, "first_token_s": 0.7, "interval_s": 0.5}
HELD: dict[str, Any] = {"first_token_s": 60}
"""Scripts: an answer with pauses, and one that does not come."""


def answer_of(received: bytes) -> tuple[bytes, bytes]:
    """The head and the body after all that says nothing."""
    while received.startswith(CONTINUE):
        received = received.removeprefix(CONTINUE)
    head, _, body = received.partition(b"\r\n\r\n")
    return head.lower(), body


def test_whole_answer_comes_though_the_client_has_closed_its_side(scripted_server: Server) -> None:
    with RawClient(scripted_server, chat_body(SLOW)) as client:
        client.finish()
        head, body = answer_of(client.read_to_close())
    assert head.startswith(b"http/1.1 200")
    assert b"\r\nconnection: close" in head
    assert json.loads(body)["usage"]["completion_tokens"] == 3


def test_stream_comes_though_the_client_has_closed_its_side(scripted_server: Server) -> None:
    with RawClient(scripted_server, chat_body(SLOW, stream=True)) as client:
        client.finish()
        head, body = answer_of(client.read_to_close())
    assert head.startswith(b"http/1.1 200")
    assert body.count(b'"content":"token "') == 3
    assert b"\n:\n\n" in body, "between tokens it was looked whether the client is there"
    assert body.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_refusal_comes_though_the_client_has_closed_its_side(scripted_server: Server) -> None:
    with RawClient(scripted_server, {"messages": 1}) as client:
        client.finish()
        head, body = answer_of(client.read_to_close())
    assert head.startswith(b"http/1.1 400")
    assert json.loads(body)["error"]["param"] == "messages"


def test_clients_pass_over_what_says_nothing(scripted_server: Server) -> None:
    """As Python's own does."""
    with RawClient(scripted_server, chat_body(SLOW)) as client:
        client.finish()
        answer = http.client.HTTPResponse(client.socket)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["usage"]["completion_tokens"]) == (200, 3)


def test_last_of_several_requests_is_answered_too(scripted_server: Server) -> None:
    with connect(scripted_server) as sock:
        body = json.dumps(chat_body(SLOW)).encode()
        sock.sendall(2 * http_request(CHAT, body))
        client = RawClient.of(sock)
        client.finish()
        assert client.read_to_close().count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("script", [HELD, {"tokens": 2, "interval_s": 60}], ids=["before a token", "after one"])
def test_client_that_closes_its_side_and_leaves_gives_its_place_back(
    scripted_server: Server, script: dict[str, Any], stream: bool
) -> None:
    before = scripted_server.stats()
    with RawClient(scripted_server, chat_body(script, stream=stream)) as client:
        scripted_server.wait_stats(running_requests=1)
        if stream and script is not HELD:
            client.read_until(b'"content":"token "')
        client.finish()
        client.leave()
        scripted_server.wait_stats(SOON_S, active_requests=0, cancelled=before["cancelled"] + 1)


def test_client_that_closes_its_side_amid_a_request_is_hung_up_on(scripted_server: Server) -> None:
    with connect(scripted_server) as sock:
        sock.sendall(http_request(CHAT, json.dumps(chat_body("hi")).encode())[:-1])
        client = RawClient.of(sock)
        client.finish()
        assert client.read_to_close() == b""


def test_idle_connection_ends_when_its_client_closes_its_side(scripted_server: Server) -> None:
    with RawClient(scripted_server, chat_body("hi")) as client:
        assert client.status == 200
        client.finish()
        client.read_to_close()
        assert CONTINUE not in client.received
