"""What programs send to a model whose template is picky, has no switches and no eyes: over HTTP, on all APIs."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.documents import scanned
from support.running.servers import Server, serving
from support.templates import GEMMA2, LLAMA31

pytestmark = pytest.mark.model

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
PATHS = (CHAT, MESSAGES, RESPONSES)
LENGTH = {CHAT: "max_tokens", MESSAGES: "max_tokens", RESPONSES: "max_output_tokens"}
HI = [{"role": "user", "content": "hi"}]
PNG = "iVBORw0KGgo="
NOWHERE = "http://127.0.0.1:9/picture.png"


@pytest.fixture(scope="module")
def server(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model whose template knows no system role, wants turns to alternate, and has no variables."""
    file = tmp_path_factory.mktemp("template") / "picky.jinja"
    file.write_text(GEMMA2)
    with serving("--model-path", tiny_model("llama"), "--chat-template", file) as server:
        yield server


def body(path: str, messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"model": "m", LENGTH[path]: 2, "input" if path == RESPONSES else "messages": messages, **more}


def ignored(server: Server, path: str, messages: list[dict[str, Any]], **more: Any) -> str | None:
    """What the answer says that it ignored."""
    response = server.post(path, body(path, messages, **more))
    assert response.status_code == 200, response.text
    return response.headers.get("x-ignored-fields")


@pytest.mark.parametrize("late", ["system", "developer"])
def test_one_conversation_is_one_prompt_on_every_api(server: Server, late: str) -> None:
    said = {"role": "system", "content": "a"}
    more = [{"role": late, "content": "x"}, {"role": "user", "content": "b"}, {"role": "user", "content": "c"}]
    answer = {"role": "assistant", "content": "d"}
    chat = [said, said, *HI, *more, answer, more[0]]
    claude = chat[2:]
    two = [{"type": "text", "text": "a"}] * 2
    usage = [server.post(path, body(path, chat)).json()["usage"] for path in (CHAT, RESPONSES)]
    claudes = server.post(MESSAGES, body(MESSAGES, claude, system=two)).json()["usage"]
    counted = server.post(f"{MESSAGES}/count_tokens", {"model": "m", "messages": claude, "system": two}).json()
    tokenized = server.post("/tokenize", {"messages": chat}).json()
    explained = server.post("/v1/cache/explain", {"messages": chat}).json()
    text = server.post("/detokenize", {"tokens": tokenized["tokens"]}).json()["prompt"]
    assert text == (
        "<s><start_of_turn>user\na\n\na\n\nhi\n\n<system>\nx\n</system>\n\nb\n\nc<end_of_turn>\n"
        "<start_of_turn>model\nd<end_of_turn>\n<start_of_turn>user\n<system>\nx\n</system><end_of_turn>\n"
        "<start_of_turn>model\n"
    )
    assert {
        usage[0]["prompt_tokens"],
        usage[1]["input_tokens"],
        claudes["input_tokens"] + claudes["cache_read_input_tokens"],
        counted["input_tokens"],
        tokenized["count"],
        explained["prompt_tokens"],
    } == {tokenized["count"]}


@pytest.mark.parametrize(
    ("path", "fields", "named"),
    [
        (CHAT, {"reasoning_effort": "medium"}, "reasoning_effort"),
        (CHAT, {"reasoning_effort": "none"}, None),
        (CHAT, {"reasoning_effort": "immense"}, "reasoning_effort"),
        (RESPONSES, {"reasoning": {"effort": "immense"}}, "reasoning.effort"),
        (CHAT, {"thinking_budget": 5}, "thinking_budget"),
        (RESPONSES, {"reasoning": {"effort": "xhigh"}}, "reasoning.effort"),
        (MESSAGES, {"output_config": {"effort": "high"}}, "output_config.effort"),
        (MESSAGES, {"thinking": {"type": "enabled", "budget_tokens": 1}}, "thinking"),
        (MESSAGES, {"thinking": {"type": "disabled"}}, None),
        (MESSAGES, {"thinking": {"type": "adaptive"}}, None),
        (
            CHAT,
            {"chat_template_kwargs": {"enable_thinking": True, "preserve_thinking": True, "foo": 1}},
            "chat_template_kwargs.enable_thinking, chat_template_kwargs.preserve_thinking, chat_template_kwargs.foo",
        ),
        (CHAT, {"chat_template_kwargs": {"enable_thinking": False}}, None),
    ],
    ids=range(12),
)
def test_switches_that_the_template_does_not_have_are_served_and_named(
    server: Server, path: str, fields: dict[str, Any], named: str | None
) -> None:
    assert ignored(server, path, HI, **fields) == named


DATA = f"data:image/png;base64,{PNG}"
FUNCTION = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CLAUDES = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
RESULTS = {
    CHAT: [
        {"role": "assistant", "tool_calls": [FUNCTION]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "image_url", "image_url": {"url": NOWHERE}}]},
    ],
    MESSAGES: [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": [CLAUDES]}]},
    ],
    RESPONSES: [
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": DATA}]},
    ],
}
WHERE = {CHAT: "messages[2].content[0]", MESSAGES: "messages[2].content[0].content[0]", RESPONSES: "input[2].output[0]"}


@pytest.mark.parametrize("path", PATHS)
def test_a_picture_from_a_tool_is_words_for_a_model_without_eyes(server: Server, path: str) -> None:
    """Nobody fetches it, and the conversation goes on."""
    assert ignored(server, path, [*HI, *RESULTS[path]]) == WHERE[path]


def test_a_model_without_eyes_is_told_that_there_was_a_picture(server: Server) -> None:
    tokens = server.post("/tokenize", {"messages": [*HI, *RESULTS[CHAT]]}).json()["tokens"]
    text = server.post("/detokenize", {"tokens": tokens}).json()["prompt"]
    assert "<tool_response>\n[An image is here; this model can't see images.]\n</tool_response>" in text


@pytest.mark.parametrize(
    ("path", "part"),
    [
        (CHAT, {"type": "image_url", "image_url": {"url": DATA}}),
        (MESSAGES, CLAUDES),
        (RESPONSES, {"type": "input_image", "image_url": DATA}),
    ],
)
def test_a_picture_of_the_users_own_is_refused(server: Server, path: str, part: dict[str, Any]) -> None:
    response = server.post(path, body(path, [{"role": "user", "content": [part]}]))
    assert response.status_code == 400
    assert "Vision requests are not supported" in response.json()["error"]["message"]


PDFS = {"scanned": scanned(Image.new("RGB", (64, 64), "red")), "broken": b"%PDF-1.4\nnonsense", "no text": b"a\0b"}


def document(path: str, file: bytes) -> dict[str, Any]:
    data = base64.b64encode(file).decode()
    match path:
        case "/v1/messages":
            return {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": data}}
        case "/v1/responses":
            return {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{data}"}
        case _:
            return {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{data}"}}


def result(path: str, *parts: dict[str, Any]) -> list[dict[str, Any]]:
    """A call and what came of it."""
    call, given = RESULTS[path]
    if path == MESSAGES:
        return [call, {"role": "user", "content": [{**given["content"][0], "content": [*parts]}]}]
    return [call, {**given, "output" if path == RESPONSES else "content": [*parts]}]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", PDFS)
def test_a_document_from_a_tool_that_cannot_be_read_is_words(server: Server, path: str, kind: str) -> None:
    """The conversation goes on, as agents send the result again with every turn; what the user sends is refused."""
    part = document(path, PDFS[kind])
    named = ignored(server, path, [*HI, *result(path, part)])
    assert named is not None
    assert named.startswith(WHERE[path])
    refused = server.post(path, body(path, [{"role": "user", "content": [part]}]))
    assert refused.status_code == 400
    assert ("send its pages as pictures" in refused.json()["error"]["message"]) == (kind == "scanned")
    if path == MESSAGES:
        counted = {"model": "m", "messages": [*HI, *result(path, part)]}
        assert server.post(f"{path}/count_tokens", counted).status_code == 200


BY_ID = {
    CHAT: {"type": "file", "file": {"file_id": "file-1"}},
    MESSAGES: {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
    RESPONSES: {"type": "input_file", "file_id": "file-1"},
}
PICTURES_BY_ID = {
    CHAT: {"type": "input_image", "file_id": "file-1"},
    MESSAGES: {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
    RESPONSES: {"type": "input_image", "file_id": "file-1"},
}


@pytest.mark.parametrize("parts", [BY_ID, PICTURES_BY_ID], ids=["document", "picture"])
@pytest.mark.parametrize("path", PATHS)
def test_a_file_that_is_not_kept_here_is_words_from_a_tool_only(
    server: Server, path: str, parts: dict[str, Any]
) -> None:
    named = ignored(server, path, [*HI, *result(path, parts[path])])
    assert named is not None
    assert named.startswith(WHERE[path])
    refused = server.post(path, body(path, [{"role": "user", "content": [parts[path]]}]))
    assert refused.status_code == 400
    assert ("there is no file" if parts is BY_ID else "Vision requests are not supported") in refused.json()["error"][
        "message"
    ]


@pytest.mark.parametrize("path", PATHS)
def test_a_result_whose_call_was_cut_off_goes_on_without_its_files(server: Server, path: str) -> None:
    picture, by_id = RESULTS[path][1], result(path, BY_ID[path])[1]
    named = ignored(server, path, [*HI, picture, *HI, by_id])
    assert named is not None
    assert named.count(".content[0]" if path != RESPONSES else ".output[0]") >= 2


def test_a_model_is_told_why_a_document_is_missing(server: Server) -> None:
    messages = [*HI, *result(CHAT, document(CHAT, PDFS["scanned"]))]
    tokens = server.post("/tokenize", {"messages": messages}).json()["tokens"]
    text = server.post("/detokenize", {"tokens": tokens}).json()["prompt"]
    assert "[A document is here that can't be shown: this PDF has no text; send its pages as pictures.]" in text


@pytest.mark.parametrize("path", PATHS)
def test_overflow_is_told_alike(server: Server, path: str) -> None:
    response = server.post(path, body(path, [{"role": "user", "content": "xyz " * 300}]))
    error = response.json()["error"]
    assert response.status_code == 400
    assert error["message"].startswith("This model's maximum context length is 512 tokens. However, your request has ")
    assert "prompt is too long: " in error["message"]
    if path != MESSAGES:
        assert error["code"] == "context_length_exceeded"


STOP = {"type": "function", "function": {"name": "stop", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def one_call_server(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model whose template refuses a turn with two calls, as Llama 3.1's does."""
    file = tmp_path_factory.mktemp("template") / "llama.jinja"
    file.write_text(LLAMA31)
    with serving("--model-path", tiny_model("llama"), "--chat-template", file) as server:
        yield server


@pytest.mark.parametrize("seed", range(3))
def test_one_call_is_made_where_a_turn_has_a_place_for_one(one_call_server: Server, seed: int) -> None:
    how = {"tools": [STOP], "tool_choice": "required", "temperature": 1.5, "seed": seed, "max_tokens": 200}
    answer = one_call_server.post(CHAT, {"model": "m", "messages": HI, **how}).json()["choices"][0]
    [call] = answer["message"]["tool_calls"]
    assert (answer["finish_reason"], call["function"]["name"]) == ("tool_calls", "stop")
    result = {"role": "tool", "tool_call_id": call["id"], "content": "stopped"}
    assert ignored(one_call_server, CHAT, [*HI, answer["message"], result], tools=[STOP]) is None


def test_several_calls_of_a_turn_are_read_one_by_one(one_call_server: Server) -> None:
    calls = [{"id": id_, "type": "function", "function": {"name": "stop", "arguments": "{}"}} for id_ in "ab"]
    results = [{"role": "tool", "tool_call_id": id_, "content": f"result {id_}"} for id_ in "ab"]
    messages = [*HI, {"role": "assistant", "content": None, "tool_calls": calls}, *results]
    tokens = one_call_server.post("/tokenize", {"messages": messages, "tools": [STOP]}).json()["tokens"]
    text = one_call_server.post("/detokenize", {"tokens": tokens}).json()["prompt"]
    places = [text.index(word, text.index("hi<|eot_id|>")) for word in ('{"name": "stop"', "result a", "result b")]
    assert places == sorted(places)
    assert text.index('{"name": "stop"', places[1]) < places[2]
