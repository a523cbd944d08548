"""What models read of the items that agents' sessions hold; what no model can read is left out and named."""

import base64
import contextlib
import json
from typing import Any

import msgspec
import pytest

from mlx_server.schemas.internal.documents import filled
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, FunctionCall, GenerationRequest, Message, Remote
from mlx_server.schemas.internal.sealed import seal
from mlx_server.schemas.openai import responses as openai_responses
from mlx_server.schemas.openai.responses import HARMLESS, Turn
from mlx_server.schemas.openai.responses_answer import items_decoder
from mlx_server.schemas.parsing.parse import parse

USER = {"role": "user", "content": "Hi"}
PNG = "data:image/png;base64,AAAA"
TEXT_FILE = "data:text/plain;base64," + base64.b64encode("é <1>".encode()).decode()


def turn(*items: dict[str, Any], **given: Any) -> Turn:
    body = json.dumps({"input": [USER, *items], **given}).encode()
    return Turn(parse(body, openai_responses.decoder, HARMLESS)[0])


def generation(*items: dict[str, Any], **given: Any) -> GenerationRequest:
    return turn(*items, **given).to_generation(9)


def messages(*items: dict[str, Any], **given: Any) -> tuple[Message, ...]:
    [prompt] = generation(*items, **given).prompts
    assert isinstance(prompt, ChatPrompt)
    assert prompt.messages[0] == Message("user", "Hi")
    return prompt.messages[1:]


def called(id_: str, name: str, arguments: Any) -> Message:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, separators=(",", ":"))
    return Message("assistant", "", tool_calls=(FunctionCall(id_, name, text),))


def gave(id_: str, text: str) -> Message:
    return Message("tool", text, tool_call_id=id_)


EXEC = {"type": "exec", "command": ["ls"], "env": {}, "timeout_ms": None, "working_directory": "/tmp"}
CREATE = {"type": "create_file", "path": "a", "diff": "+b"}

READ: list[tuple[dict[str, Any], Message]] = [
    (
        {"type": "function_call", "call_id": "c", "name": "f", "namespace": "mcp__x", "arguments": "{}"},
        called("c", "mcp__x__f", "{}"),
    ),
    ({"type": "function_call", "call_id": "c", "name": "f", "arguments": {"a": 1}}, called("c", "f", {"a": 1})),
    ({"type": "function_call_output", "call_id": "c", "output": "o"}, gave("c", "o")),
    (
        {"type": "custom_tool_call", "call_id": "c", "name": "edit", "input": 'a\n"b"'},
        called("c", "edit", {"input": 'a\n"b"'}),
    ),
    (
        {"type": "custom_tool_call_output", "call_id": "c", "name": "edit", "output": "ok"},
        gave("c", "ok"),
    ),
    (
        {"type": "custom_tool_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "ok"}]},
        gave("c", "ok"),
    ),
    (
        {"type": "local_shell_call", "id": "l", "call_id": "c", "status": "completed", "action": EXEC},
        called("c", "local_shell", {"command": ["ls"], "working_directory": "/tmp"}),
    ),
    (
        {"type": "local_shell_call", "id": "l", "status": "completed", "action": EXEC},
        called("l", "local_shell", {"command": ["ls"], "working_directory": "/tmp"}),
    ),
    ({"type": "local_shell_call_output", "id": "c", "output": "o"}, gave("c", "o")),
    ({"type": "local_shell_call_output", "id": "l", "call_id": "c", "output": "o"}, gave("c", "o")),
    (
        {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls", "pwd"], "timeout_ms": 5}},
        called("c", "shell", {"commands": ["ls", "pwd"], "timeout_ms": 5}),
    ),
    (
        {
            "type": "shell_call_output",
            "call_id": "c",
            "output": [
                {"stdout": "a", "stderr": "b", "outcome": {"type": "exit", "exit_code": 2}},
                {"stdout": "", "stderr": "", "outcome": {"type": "timeout"}},
            ],
        },
        gave("c", "a\nb\n[exit code: 2]\n[timed out]"),
    ),
    (
        {"type": "apply_patch_call", "call_id": "c", "status": "completed", "operation": CREATE},
        called("c", "apply_patch", CREATE),
    ),
    (
        {"type": "apply_patch_call_output", "call_id": "c", "status": "failed", "output": "no such file"},
        gave("c", "failed: no such file"),
    ),
    ({"type": "apply_patch_call_output", "call_id": "c", "status": "completed"}, gave("c", "completed")),
    (
        {"type": "tool_search_call", "call_id": "c", "execution": "client", "arguments": {"query": "x"}},
        called("c", "tool_search", {"query": "x"}),
    ),
    (
        {
            "type": "tool_search_output",
            "call_id": "c",
            "execution": "client",
            "status": "completed",
            "tools": [{"type": "namespace", "name": "x", "tools": [{"type": "function", "name": "f"}]}],
        },
        gave("c", "Found: x__f."),
    ),
    (
        {"type": "computer_call", "id": "u", "call_id": "c", "action": {"type": "click", "x": 1}},
        called("c", "computer", {"type": "click", "x": 1}),
    ),
    ({"type": "compaction", "encrypted_content": seal("All that was.")}, Message("user", "All that was.")),
    (
        {"type": "reasoning", "summary": [], "encrypted_content": seal("Hm.")},
        Message("assistant", "", reasoning="Hm."),
    ),
]


@pytest.mark.parametrize(("item", "message"), READ)
def test_call_and_its_result_are_what_the_model_wrote_and_reads(item: dict[str, Any], message: Message) -> None:
    assert messages(item) == (message,)
    assert generation(item).ignored == ()


HOSTED: list[tuple[dict[str, Any], Message, str]] = [
    (
        {"type": "web_search_call", "id": "w", "action": {"type": "search", "query": "q", "sources": [{"url": "u"}]}},
        called("w", "web_search", {"query": "q"}),
        "u",
    ),
    (
        {"type": "file_search_call", "id": "w", "queries": ["q"], "results": [{"filename": "a", "text": "t"}]},
        called("w", "file_search", {"queries": ["q"]}),
        "a\nt",
    ),
    (
        {
            "type": "code_interpreter_call",
            "id": "w",
            "container_id": "x",
            "code": "1+1",
            "outputs": [{"type": "logs", "logs": "2"}, {"type": "image", "url": "u"}],
        },
        called("w", "code_interpreter", {"code": "1+1"}),
        "2",
    ),
    (
        {"type": "mcp_call", "id": "w", "server_label": "s", "name": "f", "arguments": "{}", "output": "o"},
        called("w", "s__f", "{}"),
        "o",
    ),
    (
        {"type": "mcp_call", "id": "w", "server_label": "s", "name": "f", "arguments": "{}", "error": {"code": 1}},
        called("w", "s__f", "{}"),
        '{"code":1}',
    ),
]


@pytest.mark.parametrize(("item", "call", "result"), HOSTED)
def test_what_another_servers_tool_found_is_a_call_and_its_result(
    item: dict[str, Any], call: Message, result: str
) -> None:
    assert messages(item) == (call, gave("w", result))
    assert generation(item).ignored == ()


UNREAD: list[tuple[dict[str, Any], str]] = [
    ({"type": "web_search_call", "action": {"type": "search", "query": "q"}}, "web_search_call"),
    ({"type": "web_search_call"}, "web_search_call"),
    ({"type": "file_search_call", "queries": ["q"], "results": None}, "file_search_call"),
    ({"type": "code_interpreter_call", "code": "1", "container_id": "x"}, "code_interpreter_call"),
    ({"type": "image_generation_call", "result": None}, "image_generation_call"),
    ({"type": "mcp_list_tools", "server_label": "s", "tools": []}, "mcp_list_tools"),
    ({"type": "mcp_call", "server_label": "s", "name": "f", "arguments": "{}"}, "mcp_call"),
    ({"type": "mcp_approval_request", "server_label": "s", "name": "f", "arguments": "{}"}, "mcp_approval_request"),
    ({"type": "mcp_approval_response", "approval_request_id": "a", "approve": True}, "mcp_approval_response"),
    ({"type": "tool_search_call", "execution": "server", "arguments": {}}, "tool_search_call"),
    ({"type": "tool_search_output", "execution": "server", "tools": []}, "tool_search_output"),
    ({"type": "compaction", "encrypted_content": "gAAA"}, "compaction"),
    ({"type": "compaction_summary", "encrypted_content": "gAAA"}, "compaction"),
    ({"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}, "encrypted_content"),
    ({"type": "reasoning", "summary": [], "encrypted_content": "mlx1:%"}, "encrypted_content"),
    ({"type": "agent_message", "author": "a", "content": []}, "agent_message"),
    ({"type": "program", "code": "x"}, "program"),
    ({"type": "unheard_of", "deep": {"er": [1]}}, "unheard_of"),
]


@pytest.mark.parametrize(("item", "name"), UNREAD)
def test_what_no_model_can_read_is_left_out_and_named(item: dict[str, Any], name: str) -> None:
    after = {"role": "user", "content": "And?"}
    assert messages(item, after) == (Message("user", "And?"),)
    assert generation(item, after).ignored == (f"input[1].{name}",)


@pytest.mark.parametrize("item", [item for item, _ in READ] + [item for item, *_ in HOSTED])
def test_items_come_back_as_they_were_sent(item: dict[str, Any]) -> None:
    _, kept = turn(item).items
    encoded = msgspec.json.encode([kept])
    assert items_decoder.decode(encoded) == (kept,)
    [shown] = json.loads(encoded)
    for name, value in item.items():
        if name not in ("arguments", "action", "name", "tools"):
            assert shown[name] == value, name


def test_summary_of_sealed_thoughts_is_read() -> None:
    item = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "S"}], "encrypted_content": "gAAA"}
    assert messages(item) == (Message("assistant", "", reasoning="S"),)
    assert generation(item).ignored == ("input[1].encrypted_content",)


def test_a_history_of_which_nothing_can_be_read_is_refused() -> None:
    for item in ({"type": "unheard_of"}, {"type": "reasoning", "encrypted_content": "gAAA"}):
        body = json.dumps({"input": [item]}).encode()
        with pytest.raises(InvalidRequest) as caught:
            Turn(parse(body, openai_responses.decoder, HARMLESS)[0]).to_generation(9)
        assert caught.value.param == "input"


def test_names_in_the_history_are_those_of_the_tools_now() -> None:
    tools = [
        {"type": "function", "name": "a__f"},
        {"type": "namespace", "name": "a", "tools": [{"type": "function", "name": "f"}]},
        {"type": "function", "name": "shell"},
        {"type": "shell"},
    ]
    calls = [
        {"type": "function_call", "call_id": "1", "name": "f", "namespace": "a", "arguments": "{}"},
        {"type": "function_call", "call_id": "2", "name": "a__f", "arguments": "{}"},
        {"type": "shell_call", "call_id": "3", "action": {"commands": []}},
    ]
    [message] = messages(*calls, tools=tools)
    assert [call.name for call in message.tool_calls] == ["a__f_2", "a__f", "shell_2"]


def test_pictures_of_tools_reach_the_model() -> None:
    picture = [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": PNG}]
    items = [
        {"type": "function_call_output", "call_id": "c", "output": picture},
        {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "image_url": PNG}},
        {"type": "image_generation_call", "result": "AAAA", "revised_prompt": "A cat."},
    ]
    assert [[one.param for one in message.media] for message in messages(*items)] == [
        ["input[1].output[1]"],
        ["input[2].output"],
        [],
        ["input[3].result[0]"],
    ]
    assert generation(*items).ignored == ()
    lost = {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot"}}
    assert generation(lost).ignored == ("input[1].output",)


BY_ID = [
    ({"type": "function_call_output", "output": [{"type": "input_image", "file_id": "f"}]}, "output[0].file_id"),
    ({"type": "custom_tool_call_output", "output": [{"type": "input_file", "file_id": "f"}]}, "output[0].file_id"),
    ({"type": "computer_call_output", "output": {"type": "computer_screenshot", "file_id": "f"}}, "output.file_id"),
]


@pytest.mark.parametrize(("item", "field"), BY_ID)
def test_files_that_another_server_keeps_have_no_address_to_fetch(item: dict[str, Any], field: str) -> None:
    [message] = messages({**item, "call_id": "c"})
    [shown] = [*message.media, *message.documents]
    assert (shown.source, shown.param) == (Remote("file_id:f"), f"input[1].{field}")
    [_, kept] = turn({**item, "call_id": "c"}).items
    assert b'"file_id":"f"' in msgspec.json.encode(kept)


STRAY: list[tuple[dict[str, Any], bool]] = [
    ({"type": "function_call_output", "call_id": "c", "output": "o"}, True),
    ({"type": "function_call_output", "call_id": "d", "output": "o"}, False),
    ({"type": "custom_tool_call_output", "call_id": "d", "output": "o"}, False),
    ({"type": "local_shell_call_output", "id": "c", "output": "o"}, True),
    ({"type": "local_shell_call_output", "id": "d", "output": "o"}, False),
    ({"type": "tool_search_output", "execution": "server", "tools": []}, True),
    ({"type": "computer_call_output", "call_id": "d", "output": {"type": "computer_screenshot"}}, False),
]


@pytest.mark.parametrize(("item", "known"), STRAY)
def test_what_an_unknown_call_gave_is_served_but_where_it_goes_on_from_what_is_kept(
    item: dict[str, Any], known: bool
) -> None:
    before = items_decoder.decode(b'[{"type":"function_call","id":"fc","call_id":"c","name":"f","arguments":"{}"}]')
    for more in ({"previous_response_id": "resp_1"}, {"conversation": "conv_1"}):
        given = parse(json.dumps({"input": [item], **more}).encode(), openai_responses.decoder, HARMLESS)[0]
        with contextlib.nullcontext() if known else pytest.raises(InvalidRequest, match=r"`input\[0\]\.call_id`.*'d'"):
            Turn(given, before)
    assert turn(item).items


FILES = [
    ({"file_data": TEXT_FILE, "filename": 'a "b".txt'}, ' title="a &quot;b&quot;.txt"', TEXT_FILE),
    ({"file_data": "YQ=="}, "", "data:;base64,YQ=="),
    ({"file_url": "https://x.io/a.pdf"}, "", "https://x.io/a.pdf"),
]


@pytest.mark.parametrize(("part", "title", "url"), FILES)
def test_files_are_documents_in_their_places(part: dict[str, Any], title: str, url: str) -> None:
    words = [{"type": "input_text", "text": text} for text in ("Look:", "?")]
    parts = [words[0], {"type": "input_file", **part}, words[1]]
    for item in (
        {"role": "user", "content": parts},
        {"type": "function_call_output", "call_id": "c", "output": parts},
        {"role": "system", "content": parts},
    ):
        [message] = messages(item)
        [document] = message.documents
        assert document.source == Remote(url)
        assert document.param.endswith("[1].file_url" if "file_url" in part else "[1].file_data")
        assert filled(message, {document: "TEXT"}).content == f"Look:\n<document{title}>\nTEXT\n</document>\n?"


def test_files_stay_in_place_where_messages_of_the_system_become_one() -> None:
    parts = [{"type": "input_file", "file_data": TEXT_FILE}]
    given = {"input": [{"role": "system", "content": parts}, {"role": "developer", "content": parts}, USER]}
    body = json.dumps({**given, "instructions": "Be brief."}).encode()
    [prompt] = Turn(parse(body, openai_responses.decoder, HARMLESS)[0]).to_generation(9).prompts
    assert isinstance(prompt, ChatPrompt)
    texts = dict(zip(prompt.messages[0].documents, "ab", strict=True))
    framed = [f"<document>\n{text}\n</document>\n" for text in "ab"]
    assert filled(prompt.messages[0], texts) == Message("system", "\n\n".join(["Be brief.", *framed]))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"type": "function_call", "call_id": "c", "name": "f"}, "input[1].arguments"),
    ({"type": "function_call_output", "output": "a"}, "input[1].call_id"),
    ({"type": "function_call_output", "call_id": "c", "output": 5}, "input[1].output"),
    ({"type": "function_call_output", "call_id": "c", "output": [{"text": "a"}]}, "input[1].output[0].type"),
    ({"type": "custom_tool_call", "call_id": "c", "name": "f"}, "input[1].input"),
    ({"type": "local_shell_call", "call_id": "c", "action": {"type": "exec"}}, "input[1].action.command"),
    ({"type": "shell_call", "call_id": "c", "action": {"commands": "ls"}}, "input[1].action.commands"),
    ({"type": "shell_call_output", "call_id": "c", "output": "o"}, "input[1].output"),
    (
        {"type": "apply_patch_call", "call_id": "c", "operation": {"type": "move", "path": "a"}},
        "input[1].operation.type",
    ),
    ({"type": "apply_patch_call", "call_id": "c", "operation": {**CREATE, "diff": None}}, "input[1].operation"),
    ({"type": "tool_search_output", "tools": [{"name": "f"}]}, "input[1].tools[0].type"),
    ({"type": "mcp_call", "server_label": "s", "name": "f"}, "input[1].arguments"),
    ({"type": "web_search_call", "action": {"sources": 5}}, "input[1].action"),
    ({"role": "user", "content": [{"type": "input_file"}]}, "input[1].content[0].file_data"),
    (
        {"role": "user", "content": [{"type": "input_file", "file_url": "http://a", "file_data": "YQ=="}]},
        "input[1].content[0].file_url",
    ),
    (
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [{"type": "input_image", "image_url": PNG, "file_id": "f"}],
        },
        "input[1].output[0].image_url",
    ),
    ({"role": "assistant", "content": [{"type": "input_file", "file_data": "YQ=="}]}, "input[1].content[0]"),
    ({"role": "user", "content": [{"type": "input_text", "file_data": "YQ=="}]}, "input[1].content[0].file_data"),
]


@pytest.mark.parametrize(("item", "param"), WRONG)
def test_items_that_make_no_sense_are_refused_by_name(item: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        generation(item)
    assert caught.value.param == param
    assert param in caught.value.message


def test_what_this_server_wrote_is_never_unknown() -> None:
    said = {"type": "output_text", "text": "a", "annotations": [], "logprobs": []}
    items = [
        {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [said]},
        {"type": "reasoning", "id": "r", "summary": [], "status": "completed", "content": []},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "", "id": "f", "status": "completed"},
    ]
    body = json.dumps({"input": [USER, *items]}).encode()
    assert parse(body, openai_responses.decoder, HARMLESS)[1] == []
