"""Every refusal has one shape, names its field, and leaves the server as it was."""

import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.inputs.refusals import check_shape
from support.running.raw import RawClient, connect, http_request
from support.running.servers import SCRIPTED, Server, chat_body, serving

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
MESSAGES = [{"role": "user", "content": "hi"}]
MAX_BODY_BYTES = 1 << 16


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(*SCRIPTED, "--max-body-bytes", MAX_BODY_BYTES) as server:
        yield server


def check_unharmed(server: Server) -> None:
    assert server.chat("still there").status_code == 200
    stats = server.stats()
    assert (stats["active_requests"], stats["rows_used"]) == (0, 0)


def chat_with(**fields: Any) -> dict[str, Any]:
    return {"messages": MESSAGES, **fields}


def message_with(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hi", **fields}]}


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(
    "parameter",
    [{"modalities": ["text", "audio"]}, {"modalities": []}],
    ids=str,
)
def test_unsupported_parameter_is_refused_by_name(server: Server, endpoint: str, parameter: dict[str, Any]) -> None:
    [name] = parameter
    given = {"messages": MESSAGES} if endpoint == CHAT else {"prompt": "hi"}
    error = check_shape(server.post(endpoint, {**given, **parameter}), 400, name)
    assert error["code"] == "unsupported_parameter"
    assert error["message"].startswith(f"`{name}` is not supported by this server.")


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
def test_parameters_that_change_nothing_here_are_served_and_named(server: Server, endpoint: str) -> None:
    given = {"messages": MESSAGES} if endpoint == CHAT else {"prompt": "hi"}
    idle: dict[str, Any] = {"store": True, "audio": {"voice": "x"}, "verbosity": "low", "service_tier": "flex"}
    idle["prediction"] = {"type": "content", "content": "hello"}
    options = {"stream": True, "stream_options": {"include_obfuscation": True}}
    usual = {"modalities": ["text"], "moderation": None}
    response = server.post(endpoint, {**given, **idle, **options, **usual, "web_search_options": {}})
    assert response.status_code == 200, response.text
    named = {*idle, "web_search_options", "stream_options.include_obfuscation"}
    assert set(response.headers["x-ignored-fields"].split(", ")) == named
    usual = {"store": False, "verbosity": "medium", "service_tier": "auto"}
    assert "x-ignored-fields" not in server.post(endpoint, {**given, **usual}).headers


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
        ("DELETE", "/v1/models/scripted/load", {"POST"}),
        ("GET", "/v1/models/scripted/unload", {"POST"}),
        ("DELETE", "/v1/models/scripted/health", {"GET", "HEAD"}),
        ("PUT", "/v1/models/scripted", {"GET", "HEAD", "DELETE"}),
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


@pytest.mark.parametrize("path", ["/v1", "/nothing", "/v1/moderations", "/v1/chat", "/%ff%00"])
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
    assert f"maximum context length is {context} tokens" in error["message"]


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
