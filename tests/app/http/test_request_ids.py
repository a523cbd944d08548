"""Every answer says which request it answers, and which fields of it nobody knew."""

import re
from collections.abc import Callable

import pytest
from support.inputs.refusals import check_shape
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body
from support.running.streams import open_stream

HEADER = "x-request-id"
MADE = re.compile(r"[0-9a-f]{32}")


def test_every_answer_has_an_id(scripted_server: Server) -> None:
    answers = [
        scripted_server.chat("hi"),
        scripted_server.chat("hi", stream=True),
        scripted_server.chat("hi", n=0),
        scripted_server.chat({"raise_at": 1}),
        scripted_server.get("/nothing"),
        scripted_server.get("/v1/chat/completions"),
        scripted_server.get("/health"),
        scripted_server.get("/metrics"),
        scripted_server.http.head(f"{scripted_server.root}/health"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 400, 500, 404, 405, 200, 200, 200]
    ids = [answer.headers[HEADER] for answer in answers]
    assert all(map(MADE.fullmatch, ids))
    assert len(set(ids)) == len(ids)


def test_refused_answers_have_an_id(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 1, "--queue-size", 0)
    with RawClient(server, chat_body({"first_token_s": 60})):
        server.wait_stats(running_requests=1)
        answer = server.chat("hi")
    assert answer.status_code == 429
    assert MADE.fullmatch(answer.headers[HEADER])


@pytest.mark.parametrize("given", ["abc", "a-b_c.d:e/f+g=h@i", "7" * 128])
def test_plain_id_of_the_client_is_kept(scripted_server: Server, given: str) -> None:
    assert scripted_server.get("/health", headers={HEADER: given}).headers[HEADER] == given
    with open_stream(scripted_server, chat_body("hi")) as response:
        assert MADE.fullmatch(response.headers[HEADER])
    answer = scripted_server.post("/v1/chat/completions", b"{", headers={HEADER: given})
    assert (answer.status_code, answer.headers[HEADER]) == (400, given)
    # The line is written after the answer, so it may come a moment later.
    line = re.compile(rf" POST /v1/chat/completions 400 .* {re.escape(given)}(?: |$)", re.MULTILINE)
    scripted_server.wait_until(lambda: line.search(scripted_server.output()))


@pytest.mark.parametrize("given", ["", "a b", "a,b", "7" * 129, "é", "a\tb", "<script>", '"quoted"'])
def test_other_id_of_the_client_is_replaced(scripted_server: Server, given: str) -> None:
    answer = scripted_server.get("/health", headers={HEADER: given.encode()})
    assert MADE.fullmatch(answer.headers[HEADER])


TOOL = {"type": "function", "function": {"name": "f"}}


def test_unknown_fields_are_reported(scripted_server: Server) -> None:
    for stream in (False, True):
        answer = scripted_server.chat("hi", stream=stream, thinking=True, top_z=3, tools=[{**TOOL, "extra": 1}])
        assert answer.status_code == 200
        assert answer.headers["x-ignored-fields"] == "thinking, top_z, tools[0].extra"
    assert "x-ignored-fields" not in scripted_server.chat("hi", user="me", metadata={"a": 1}, seed=None).headers
    assert (
        scripted_server.complete("hi", max_completion_tokens=5).headers["x-ignored-fields"] == "max_completion_tokens"
    )


def test_names_of_unknown_fields_cannot_break_a_header(scripted_server: Server) -> None:
    names = ["a\r\nSet-Cookie: x=y", "naïve", "x" * 200, *(f"f{n}" for n in range(30))]
    answer = scripted_server.chat("hi", **dict.fromkeys(names, 1))
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    ignored = answer.headers["x-ignored-fields"].split(", ")
    assert ignored[:3] == ["a??Set-Cookie??x?y", "na?ve", "x" * 128]
    assert (len(ignored), ignored[-1]) == (21, "...")


def test_unknown_fields_are_refused_if_the_server_is_strict(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--strict-params")
    for fields, param in (
        ({"thinking": True}, "thinking"),
        ({"tools": [TOOL, {"type": "function", "function": {"name": "g", "bar": 1}}], "z": 1}, "tools[1].function.bar"),
        ({"response_format": {"type": "json_object", "strict": True}}, "response_format.strict"),
    ):
        for stream in (False, True):
            error = check_shape(server.chat("hi", stream=stream, **fields), 400, param)
            assert (error["message"], error["code"]) == (f"`{param}` is not a known parameter.", "unknown_parameter")
    error = check_shape(server.complete("hi", messages=[]), 400, "messages")
    assert error["code"] == "unknown_parameter"
    known = {"user": "me", "metadata": {"anything": 1}, "store": False, "tools": [TOOL]}
    assert server.chat("hi", **known).status_code == 200
