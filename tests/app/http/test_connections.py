"""What the wire allows: connections that are kept, pipelined, old, or that ask before they send."""

import contextlib
import http.client
import json
import select
import socket

import pytest
from support.running.raw import CHAT, connect, http_request
from support.running.servers import Server, chat_body

BODY = json.dumps(chat_body("one two")).encode()


def read_answer(sock: socket.socket) -> tuple[int, bytes]:
    with contextlib.closing(http.client.HTTPResponse(sock)) as answer:
        answer.begin()
        return answer.status, answer.read()


def test_connection_is_kept_after_answers_and_refusals(scripted_server: Server) -> None:
    with connect(scripted_server) as sock:
        requests = [(BODY, 200), (b"{", 400), (json.dumps(chat_body("hi", stream=True)).encode(), 200), (BODY, 200)]
        for content, status in requests:
            sock.sendall(http_request(CHAT, content))
            got, body = read_answer(sock)
            assert (got, bool(body)) == (status, True)


def test_pipelined_requests_are_answered_in_order(scripted_server: Server) -> None:
    with connect(scripted_server) as sock:
        slow = json.dumps(chat_body({"tokens": 3, "interval_s": 0.05}, stream=True)).encode()
        sock.sendall(http_request(CHAT, slow) + http_request(CHAT, BODY))
        received = b""
        while b'"completion_tokens":2' not in received:
            part = sock.recv(1 << 16)
            assert part, received
            received += part
    assert received.count(b"HTTP/1.1 200") == 2
    assert received.index(b"[DONE]") < received.rindex(b"HTTP/1.1 200")


def test_body_is_asked_for_when_the_client_waits_to_send_it(scripted_server: Server) -> None:
    head = http_request(CHAT, b"", {"Content-Length": str(len(BODY)), "Expect": "100-continue"})
    with connect(scripted_server) as sock:
        sock.sendall(head)
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 Continue")
        sock.sendall(BODY)
        assert read_answer(sock)[0] == 200


def test_old_protocol_is_answered(scripted_server: Server) -> None:
    with connect(scripted_server) as sock:
        sock.sendall(http_request(CHAT, BODY).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        status, body = read_answer(sock)
    assert (status, json.loads(body)["usage"]["completion_tokens"]) == (200, 2)


def test_head_is_answered_without_a_body(scripted_server: Server) -> None:
    answer = scripted_server.http.head(f"{scripted_server.root}/v1/models")
    assert (answer.status_code, answer.content) == (200, b"")


def test_content_type_does_not_matter(scripted_server: Server) -> None:
    for content_type in ("text/plain", "application/json; charset=utf-8", "nonsense"):
        answer = scripted_server.post(CHAT, BODY, headers={"content-type": content_type})
        assert answer.status_code == 200


GARBAGE = [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"\0" * 100, b"POST / HTTP/9.9\r\n\r\n"]


@pytest.mark.parametrize("garbage", GARBAGE, ids=repr)
def test_garbage_is_refused_in_the_one_shape(scripted_server: Server, garbage: bytes) -> None:
    with connect(scripted_server) as sock:
        sock.sendall(garbage)
        status, body = read_answer(sock)
        assert sock.recv(1) == b""
    assert status == 400
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    assert json.loads(body)["detail"]
    assert scripted_server.chat("hi").status_code == 200


def test_endless_head_is_refused(scripted_server: Server) -> None:
    with connect(scripted_server) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\n")
        while not select.select([sock], [], [], 0.001)[0]:
            sock.sendall(b"X-More: " + b"x" * 1000 + b"\r\n")
        status, body = read_answer(sock)
    assert status == 431
    assert json.loads(body)["detail"] == "The request's head is larger than 65536 bytes."
    assert scripted_server.chat("hi").status_code == 200


def test_large_head_and_long_connections_are_no_endless_head(scripted_server: Server) -> None:
    with connect(scripted_server) as sock:
        for _ in range(5):
            sock.sendall(http_request(CHAT, BODY, {"X-More": "x" * 30_000}))
            assert read_answer(sock)[0] == 200


def test_large_bodies_on_one_connection_are_no_large_heads(scripted_server: Server) -> None:
    with connect(scripted_server) as sock:
        # The smaller ones reach the server with their head, and the next one, as one piece.
        for size in (70_000, 120_000, 200_000, 1_000_000, 70_000):
            sock.sendall(http_request(CHAT, json.dumps(chat_body("one two", user="x" * size)).encode()))
            assert read_answer(sock)[0] == 200


def test_connection_that_says_nothing_is_let_go(scripted_server: Server) -> None:
    for _ in range(3):
        connect(scripted_server).close()
    assert scripted_server.chat("hi").status_code == 200
    assert "Traceback" not in scripted_server.output()
