"""Every refusal has one shape, names its field, and leaves the server as it was."""

import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from support.raw import RawClient, connect, http_request
from support.servers import SCRIPTED, Server, chat_body

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
MESSAGES = [{"role": "user", "content": "hi"}]
MAX_BODY_BYTES = 1 << 16
VISION = "Vision requests are not supported with text-only models. Use a VLM model type instead."


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server(*SCRIPTED, "--max-body-bytes", MAX_BODY_BYTES)
    server.wait_ready()
    yield server
    server.close()


def check_shape(response: httpx.Response, status: int, param: str | None = None) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    body = response.json()
    assert body.keys() == {"error", "detail"}
    error = dict(body["error"])
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"] == body["detail"]
    assert error["message"]
    assert error["param"] == param
    return error


def check_unharmed(server: Server) -> None:
    assert server.chat("still there").status_code == 200
    stats = server.stats()
    assert (stats["active_requests"], stats["rows_used"]) == (0, 0)


def chat_with(**fields: Any) -> dict[str, Any]:
    return {"messages": MESSAGES, **fields}


def message_with(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hi", **fields}]}


def nested(depth: int) -> bytes:
    return b'{"messages": ' + b"[" * depth + b"]" * depth + b"}"


INVALID_JSON = {
    "empty": b"",
    "truncated": b'{"messages": [',
    "words": b"hello",
    "not UTF-8": b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}',
    "UTF-8 of a surrogate": b'{"messages": [{"role": "user", "content": "\xed\xa0\x80"}]}',
    "lone high surrogate": rb'{"messages": [{"role": "user", "content": "\ud800"}]}',
    "lone low surrogate": rb'{"messages": [{"role": "user", "content": "\udc00"}]}',
    "NaN": b'{"messages": [{"role": "user", "content": "hi"}], "temperature": NaN}',
    "Infinity": b'{"messages": [{"role": "user", "content": "hi"}], "temperature": -Infinity}',
    "trailing text": b'{"messages": [{"role": "user", "content": "hi"}]} {}',
    "byte order mark": b'\xef\xbb\xbf{"messages": [{"role": "user", "content": "hi"}]}',
    "single quotes": b"{'messages': []}",
}


@pytest.mark.parametrize("body", INVALID_JSON.values(), ids=INVALID_JSON)
def test_invalid_json_is_refused(server: Server, body: bytes) -> None:
    error = check_shape(server.post(CHAT, body), 400)
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith("The body is not valid JSON: ")
    check_unharmed(server)


NOT_OBJECTS = (b"[]", b"null", b'"text"', b"5", b"[" * 3000)


@pytest.mark.parametrize("body", NOT_OBJECTS, ids=lambda body: body[:8].decode())
def test_body_that_is_no_object_is_refused(server: Server, body: bytes) -> None:
    assert "Expected `object`" in check_shape(server.post(CHAT, body), 400)["message"]
    check_unharmed(server)


@pytest.mark.parametrize("depth", [1500, 20_000])
def test_deep_nesting_is_refused(server: Server, depth: int) -> None:
    assert check_shape(server.post(CHAT, nested(depth)), 400)["message"] == "The body is nested too deeply."
    check_unharmed(server)


# What is sent, the field that the refusal names, and a part of its message.
CHAT_REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "messages", "`messages` is missing"),
    ({"messages": None}, "messages", "Expected `array`, got `null`"),
    ({"messages": "hi"}, "messages", "Expected `array`, got `str`"),
    ({"messages": []}, "messages", "at least one message is needed"),
    ({"messages": ["hi"]}, "messages[0]", "Expected `object`, got `str`"),
    ({"messages": [{"content": "hi"}]}, "messages[0].role", "`messages[0].role` is missing"),
    ({"messages": [*MESSAGES, {"role": "user"}]}, "messages[1].content", "is missing"),
    (message_with(role="wizard"), "messages[0].role", "allowed are system, developer, user, assistant"),
    (message_with(role=1), "messages[0].role", "Expected `str`, got `int`"),
    (message_with(role="tool", tool_call_id="1"), "messages[0].role", "'tool' is not supported"),
    (message_with(content=None), "messages[0].content", "is missing"),
    (message_with(content=5), "messages[0].content", "got `int`"),
    (message_with(content=[{"text": "x"}]), "messages[0].content[0].type", "is missing"),
    (message_with(content=[{"type": "text"}]), "messages[0].content[0].text", "is missing"),
    (message_with(content=[{"type": "text", "text": 1}]), "messages[0].content[0].text", "got `int`"),
    (message_with(content=[{"type": "input_audio"}]), "messages[0].content[0].type", "expected 'text'"),
    (message_with(content=[{"type": "image_url", "image_url": {"url": "data:"}}]), "messages[0].content[0]", VISION),
    (message_with(name=5), "messages[0].name", "got `int`"),
    (message_with(tool_calls=[{"id": "1"}]), "messages[0].tool_calls", "not supported"),
    (chat_with(model=5), "model", "Expected `str | null`"),
    (chat_with(model="x" * 257), "model", "length <= 256"),
    (chat_with(temperature=-0.1), "temperature", ">= 0.0"),
    (chat_with(temperature=2.1), "temperature", "<= 2.0"),
    (chat_with(temperature="hot"), "temperature", "got `str`"),
    (chat_with(top_p=-0.1), "top_p", ">= 0.0"),
    (chat_with(top_p=1.1), "top_p", "<= 1.0"),
    (chat_with(top_k=-2), "top_k", ">= -1"),
    (chat_with(top_k=1.5), "top_k", "got `float`"),
    (chat_with(min_p=-1), "min_p", ">= 0.0"),
    (chat_with(max_tokens=0), "max_tokens", ">= 1"),
    (chat_with(max_tokens=-5), "max_tokens", ">= 1"),
    (chat_with(max_tokens="5"), "max_tokens", "got `str`"),
    (chat_with(max_tokens=True), "max_tokens", "got `bool`"),
    (chat_with(max_tokens=2**31), "max_tokens", "<= 2147483647"),
    (chat_with(max_completion_tokens=-1), "max_completion_tokens", ">= 1"),
    (chat_with(seed="x"), "seed", "got `str`"),
    (chat_with(seed=2**70), "seed", "<= 9223372036854775807"),
    (chat_with(stop=5), "stop", "got `int`"),
    (chat_with(stop=[1]), "stop[0]", "got `int`"),
    (chat_with(stop=""), "stop", "strings must have 1 to 1000 characters"),
    (chat_with(stop=["a", "x" * 1001]), "stop", "strings must have 1 to 1000 characters"),
    (chat_with(stop=["a"] * 17), "stop", "at most 16 strings"),
    (chat_with(repetition_penalty=0), "repetition_penalty", "> 0.0"),
    (chat_with(repetition_context_size=-1), "repetition_context_size", ">= 1"),
    (chat_with(presence_penalty=2.5), "presence_penalty", "<= 2.0"),
    (chat_with(frequency_penalty=-2.5), "frequency_penalty", ">= -2.0"),
    (chat_with(logit_bias=[]), "logit_bias", "got `array`"),
    (chat_with(logit_bias={"cat": 1}), "logit_bias.cat", "a key must be a token id"),
    (chat_with(logit_bias={"-1": 1}), "logit_bias.-1", "a key must be a token id"),
    (chat_with(logit_bias={"1": "much"}), "logit_bias.1", "expected a number, got 'much'"),
    (chat_with(logit_bias={"1": "nan"}), "logit_bias.1", "from -100 to 100"),
    (chat_with(logit_bias={"1": 101}), "logit_bias.1", "from -100 to 100"),
    (chat_with(stream="yes"), "stream", "got `str`"),
    (chat_with(stream=1), "stream", "got `int`"),
    (chat_with(stream_options={"include_usage": True}), "stream_options", "only allowed when `stream` is true"),
    (chat_with(stream=True, stream_options={"more": 1}), "stream_options", "unknown field `more`"),
    (chat_with(user=5), "user", "got `int`"),
    (chat_with(metadata="x"), "metadata", "Expected `object | null`"),
]


@pytest.mark.parametrize(("body", "param", "message"), CHAT_REFUSALS, ids=lambda value: str(value)[:60])
def test_malformed_chat_is_refused_by_field(server: Server, body: dict[str, Any], param: str, message: str) -> None:
    error = check_shape(server.post(CHAT, body), 400, param)
    assert error["type"] == "invalid_request_error"
    assert message in error["message"]
    if message != VISION:
        assert f"`{param}`" in error["message"]
    check_unharmed(server)


COMPLETION_REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "prompt", "`prompt` is missing"),
    ({"prompt": None}, "prompt", "got `null`"),
    ({"prompt": 5}, "prompt", "got `int`"),
    ({"prompt": []}, "prompt", "is an empty list"),
    ({"prompt": ["a", 1]}, "prompt", "can't be mixed"),
    ({"prompt": [[1], "a"]}, "prompt", "can't be mixed"),
    ({"prompt": [[1.5]]}, "prompt[0][0]", "got `float`"),
    ({"prompt": [True]}, "prompt[0]", "got `bool`"),
    ({"prompt": ["a"] * 257}, "prompt", "at most 256 prompts"),
    ({"prompt": [2**70]}, "prompt[0]", "Expected `int` <= "),
    ({"prompt": [[1], [2**64]]}, "prompt[1][0]", "Expected `int` <= "),
]


@pytest.mark.parametrize(("body", "param", "message"), COMPLETION_REFUSALS, ids=lambda value: str(value)[:60])
def test_malformed_completion_is_refused_by_field(
    server: Server, body: dict[str, Any], param: str, message: str
) -> None:
    error = check_shape(server.post(COMPLETIONS, body), 400, param)
    assert message in error["message"]
    check_unharmed(server)


UNSUPPORTED: list[dict[str, Any]] = [
    {"n": 2},
    {"n": 0},
    {"n": True},
    {"tools": [{"type": "function", "function": {"name": "f"}}]},
    {"tool_choice": "required"},
    {"functions": [{"name": "f"}]},
    {"response_format": {"type": "json_object"}},
    {"logprobs": True},
    {"top_logprobs": 2},
    {"reasoning_effort": "low"},
    {"audio": {"voice": "x"}},
    {"min_tokens": 3},
    {"echo": True},
    {"best_of": 2},
    {"suffix": "x"},
]


@pytest.mark.parametrize("parameter", UNSUPPORTED, ids=str)
@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
def test_unsupported_parameter_is_refused_by_name(server: Server, endpoint: str, parameter: dict[str, Any]) -> None:
    [name] = parameter
    given = {"messages": MESSAGES} if endpoint == CHAT else {"prompt": "hi"}
    error = check_shape(server.post(endpoint, {**given, **parameter}), 400, name)
    assert error["code"] == "unsupported_parameter"
    assert error["message"].startswith(f"`{name}` is not supported by this server.")


def test_parameters_that_change_nothing_are_accepted(server: Server) -> None:
    harmless = {"n": 1, "tools": [], "tool_choice": "auto", "response_format": {"type": "text"}, "logprobs": False}
    nothing = dict.fromkeys(["temperature", "top_p", "stop", "seed", "logit_bias", "max_tokens", "stream", "user"])
    response = server.chat("hi", **harmless, **nothing)
    assert response.status_code == 200, response.text
    assert "x-ignored-fields" not in response.headers


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, {"POST"}),
        ("PUT", COMPLETIONS, {"POST"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("DELETE", "/v1/models/scripted", {"GET", "HEAD"}),
        ("PATCH", "/health", {"GET", "HEAD", "POST"}),
        ("POST", "/health/ready", {"GET", "HEAD"}),
        ("POST", "/v1/queue/stats", {"GET", "HEAD"}),
        ("POST", "/metrics", {"GET", "HEAD"}),
    ],
)
def test_wrong_method_is_refused_with_the_right_ones(server: Server, method: str, path: str, allowed: set[str]) -> None:
    response = server.http.request(method, server.root + path)
    error = check_shape(response, 405)
    assert set(response.headers["allow"].split(", ")) == allowed
    assert error["code"] == "method_not_allowed"
    assert error["message"].startswith(f"{method} is not allowed at {path}")


@pytest.mark.parametrize("path", ["/", "/v1", "/nothing", "/v1/embeddings", "/v1/chat", "/%ff%00", "/v1/models/other"])
def test_unknown_path_is_not_found(server: Server, path: str) -> None:
    error = check_shape(server.get(path), 404)
    assert (error["type"], error["code"]) == ("invalid_request_error", "not_found")


def test_declared_body_over_the_limit_is_refused_unread(server: Server) -> None:
    with connect(server) as sock:
        sock.sendall(http_request(CHAT, b"", {"Content-Length": str(MAX_BODY_BYTES + 1)}))
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        assert answer.status == 413
        assert answer.headers["connection"] == "close"
        error = json.loads(answer.read())["error"]
    assert error["message"] == f"The body is larger than {MAX_BODY_BYTES} bytes."
    check_unharmed(server)


def test_chunked_body_over_the_limit_is_refused(server: Server) -> None:
    def endless() -> Iterator[bytes]:
        yield from [b"x" * 1024] * (MAX_BODY_BYTES // 1024 + 64)

    error = check_shape(server.http.post(server.root + CHAT, content=endless()), 413)
    assert error["code"] == "request_too_large"
    check_unharmed(server)


def test_body_at_the_limit_is_accepted(server: Server) -> None:
    body = json.dumps(chat_body("hi")).encode()
    assert server.post(CHAT, body + b" " * (MAX_BODY_BYTES - len(body))).status_code == 200
    check_shape(server.post(CHAT, body + b" " * (MAX_BODY_BYTES - len(body) + 1)), 413)


def test_chunked_body_is_read(server: Server) -> None:
    body = json.dumps(chat_body("one two")).encode()
    response = server.http.post(server.root + CHAT, content=iter([body[:10], body[10:]]))
    assert response.json()["usage"]["completion_tokens"] == 2


def test_client_that_leaves_while_it_sends_is_no_error(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    for head in (b"POST ", http_request(CHAT, b"", {"Content-Length": "100"}) + b'{"messages"'):
        with connect(server) as sock:
            sock.sendall(head)
    with RawClient(server, chat_body("hi")) as client:
        assert client.status == 200
    server.stop()
    assert "Traceback" not in server.output()
    assert "ERROR" not in server.output()


def test_refusal_does_not_send_everything_back(server: Server) -> None:
    error = check_shape(server.post(CHAT, message_with(role="x" * 50_000)), 400, "messages[0].role")
    assert len(error["message"]) < 1100
    name = "y" * 10_000
    answer = server.post(CHAT, chat_with(logit_bias={name: 1}))
    assert len(answer.json()["error"]["param"]) < 300


def test_refusal_of_the_prompt_itself_is_a_bad_request(server: Server) -> None:
    for stream in (False, True):
        error = check_shape(server.chat({"invalid": True}, stream=stream), 400, "prompt")
        assert error["message"] == "the script says that this prompt is refused"
    check_unharmed(server)


@pytest.mark.model
@pytest.mark.parametrize("stream", [False, True])
def test_prompt_longer_than_the_context_is_refused_with_both_numbers(smollm2_server: Server, stream: bool) -> None:
    context = smollm2_server.get("/v1/models").json()["data"][0]["context_length"]
    error = check_shape(smollm2_server.complete([7] * (context + 5), stream=stream), 400, "prompt")
    assert str(context) in error["message"]
    assert str(context + 5) in error["message"]
    error = check_shape(smollm2_server.chat("one two " * context, stream=stream), 400, "messages")
    assert f"this model's context is {context} tokens" in error["message"]


@pytest.mark.model
def test_token_id_out_of_the_vocabulary_is_refused(smollm2_server: Server) -> None:
    vocabulary = 49152
    for prompt in ([vocabulary], [[5], [5, vocabulary]]):
        error = check_shape(smollm2_server.complete(prompt), 400, "prompt")
        assert f"token id {vocabulary} is not in the vocabulary (0 to {vocabulary - 1})" in error["message"]


@pytest.mark.model
def test_logit_bias_out_of_the_vocabulary_is_refused(smollm2_server: Server) -> None:
    error = check_shape(smollm2_server.chat("hi", logit_bias={"49152": 5}), 400, "logit_bias")
    assert error["message"] == "`logit_bias`: token id 49152 is not in the vocabulary (0 to 49151)."


@pytest.mark.model
def test_real_model_answers_after_refusals(smollm2_server: Server) -> None:
    assert smollm2_server.complete([[]], max_tokens=1).status_code == 200
    stats = smollm2_server.stats()
    assert (stats["active_requests"], stats["rows_used"]) == (0, 0)
