"""OpenAI's SDK on `/v1/responses`: answers, streams, and what is kept of them."""

import contextlib
import json
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseItemList
from pydantic import BaseModel
from support.responses import response, stream, strict
from support.running.clients import CONFIGURED, sdk
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server

RESPONSES = "/v1/responses"
FRANCE = "What is the capital of France?"
ANSWER = "The capital of France is Paris."
MODEL = "any-name/will-do"
SAME_KEY = {"headers": {"x-api-key": CONFIGURED["api_key"]}}


@pytest.fixture
def client(scripted_server: Server) -> Iterator[openai.OpenAI]:
    with sdk(scripted_server) as client:
        yield client


def script(**what: Any) -> str:
    return json.dumps(what)


def ask(client: openai.OpenAI, text: str = "one two", **more: Any) -> Any:
    return client.responses.create(model=MODEL, input=text, **more)


def post(server: Server, text: str = "one two", **more: Any) -> Any:
    return server.post(RESPONSES, {"input": text, **more})


def test_answers_and_streams_are_what_the_sdks_types_say(scripted_server: Server) -> None:
    whole = response(post(scripted_server).content)
    assert (whole.output_text, whole.status, whole.model) == ("token token ", "incomplete", "scripted")
    answer = post(scripted_server, stream=True)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = stream(answer.content)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "token token "
    assert events[-1].response.output_text == "token token "


def test_unknown_fields_are_named_and_the_rest_is_served(scripted_server: Server) -> None:
    answer = post(scripted_server, nonsense=1)
    assert (answer.status_code, answer.headers["x-ignored-fields"]) == (200, "nonsense")


def test_bad_request_names_the_field(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, prompt={"id": "pmpt_1"})
    assert (caught.value.param, caught.value.code) == ("prompt", "unsupported_parameter")


def test_failure_before_the_first_event_is_a_status_code(client: openai.OpenAI) -> None:
    for streamed in (False, True):
        with pytest.raises(openai.InternalServerError, match="the script says so"):
            ask(client, script(raise_at=1), stream=streamed)


def test_failure_in_a_stream_is_an_error_and_a_failed_response_that_is_kept(client: openai.OpenAI) -> None:
    *_, error, failed = ask(client, script(tokens=9, raise_at=3), stream=True)
    assert (error.type, error.code) == ("error", "engine_error")
    assert error.message == "Failed to generate response: the script says so"
    assert (failed.type, failed.response.status) == ("response.failed", "failed")
    kept = client.responses.retrieve(failed.response.id)
    assert kept == failed.response
    assert kept.output_text == "token token "


def test_what_was_answered_can_be_retrieved_as_it_was(client: openai.OpenAI) -> None:
    whole = ask(client, metadata={"a": "b"})
    assert client.responses.retrieve(whole.id) == whole
    *_, last = ask(client, stream=True)
    assert client.responses.retrieve(last.response.id) == last.response


def test_what_is_kept_can_be_asked_for_with_all_that_the_sdk_has(client: openai.OpenAI) -> None:
    included: Any = ["message.output_text.logprobs", "reasoning.encrypted_content"]
    whole = ask(client)
    assert client.responses.retrieve(whole.id, include=included) == whole
    listed = client.responses.input_items.list(whole.id, include=included[:1])
    assert listed.data == client.responses.input_items.list(whole.id).data
    begun = ask(client, background=True, stream=True)
    events = list(begun)
    asked: Any = {"stream": True, "starting_after": 0, "include": included[:1]}
    assert list(client.responses.retrieve(events[0].response.id, include_obfuscation=False, **asked)) == events[1:]
    raw = client.responses.with_raw_response.retrieve(whole.id, include_obfuscation=True)
    assert raw.headers["x-ignored-fields"] == "include_obfuscation"


def test_what_was_not_to_be_stored_is_not(client: openai.OpenAI) -> None:
    answer = ask(client, store=False)
    assert answer.store is False
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.retrieve(answer.id)
    assert caught.value.code == "not_found"


def test_what_its_client_did_not_wait_for_is_not_kept(scripted_server: Server) -> None:
    with RawClient(scripted_server, {"input": script(tokens=4000, interval_s=0.01), "stream": True}, RESPONSES) as raw:
        head = raw.read_until(b"response.output_text.delta")
    scripted_server.wait_stats(active_requests=0, timeout_s=5)
    id_ = head.split(b'"id":"resp_')[1].split(b'"')[0].decode()
    assert scripted_server.get(f"{RESPONSES}/resp_{id_}").status_code == 404


def test_deleted_response_is_gone(client: openai.OpenAI, scripted_server: Server) -> None:
    answer = ask(client)
    deleted = scripted_server.http.delete(f"{scripted_server.root}{RESPONSES}/{answer.id}", **SAME_KEY)
    assert deleted.json() == {"id": answer.id, "object": "response", "deleted": True}
    for call in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        with pytest.raises(openai.NotFoundError):
            call(answer.id)


def test_conversation_goes_on_from_what_was_kept(client: openai.OpenAI) -> None:
    first = ask(client, "one", instructions="Be brief.")
    second = ask(client, "two", previous_response_id=first.id)
    third = ask(client, [{"role": "user", "content": "three"}], previous_response_id=second.id, stream=True)
    *_, last = third
    items = client.responses.input_items.list(last.response.id, order="asc").data
    said = [(item.role, item.content[0].text) for item in items]
    # Instructions are for one response only, and no item.
    assert said == [
        ("user", "one"),
        ("assistant", "token "),
        ("user", "two"),
        ("assistant", "token "),
        ("user", "three"),
    ]
    assert second.previous_response_id == first.id
    assert second.instructions is None


def test_conversation_that_is_not_there_is_refused(client: openai.OpenAI) -> None:
    first = ask(client)
    second = ask(client, previous_response_id=first.id)
    client.responses.delete(first.id)
    for unknown in ("resp_0", first.id, second.id):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, previous_response_id=unknown)
        assert caught.value.param == "previous_response_id"
        assert caught.value.code == "previous_response_not_found"


def test_conversation_that_is_too_large_is_refused(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-body-bytes", 4096)
    first = response(post(server, "x " * 1500).content)
    answer = post(server, previous_response_id=first.id)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "previous_response_id"


def test_input_items_come_in_pages(client: openai.OpenAI, scripted_server: Server) -> None:
    given = [{"role": "user", "content": str(n)} for n in range(5)]
    answer = ask(client, given)
    pages = client.responses.input_items.list(answer.id, limit=2)
    assert [item.content[0].text for item in pages] == ["4", "3", "2", "1", "0"]
    path = f"{RESPONSES}/{answer.id}/input_items"
    page = strict(ResponseItemList, scripted_server.get(f"{path}?order=asc&limit=2", **SAME_KEY).json())
    assert [item.content[0].text for item in page.data] == ["0", "1"]
    assert (page.first_id, page.last_id, page.has_more) == (page.data[0].id, page.data[1].id, True)
    rest = strict(ResponseItemList, scripted_server.get(f"{path}?order=asc&after={page.last_id}", **SAME_KEY).json())
    assert ([item.content[0].text for item in rest.data], rest.has_more) == (["2", "3", "4"], False)


EXIT = {"type": "exit", "exit_code": 0}
ITEMS: list[dict[str, Any]] = [
    {"type": "message", "role": "developer", "content": "a"},
    {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "b"}]},
    {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "c", "annotations": []}],
    },
    {"type": "function_call", "call_id": "c1", "name": "add", "namespace": "mcp__x", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "1"},
    {"type": "custom_tool_call", "call_id": "c2", "name": "edit", "input": "x"},
    {
        "type": "custom_tool_call_output",
        "call_id": "c2",
        "output": [{"type": "input_file", "file_data": "data:text/plain,ok", "filename": "a.txt"}],
    },
    {"type": "local_shell_call", "call_id": "c3", "action": {"type": "exec", "command": ["ls"], "env": {}}},
    {"type": "local_shell_call_output", "id": "c3", "output": "x"},
    {"type": "shell_call", "call_id": "c4", "action": {"commands": ["ls"], "timeout_ms": None}},
    {"type": "shell_call_output", "call_id": "c4", "output": [{"stdout": "x", "stderr": "", "outcome": EXIT}]},
    {"type": "apply_patch_call", "call_id": "c5", "operation": {"type": "delete_file", "path": "a"}},
    {"type": "apply_patch_call_output", "call_id": "c5", "status": "failed", "output": "no"},
    {"type": "tool_search_call", "call_id": "c6", "execution": "client", "arguments": {"query": "q"}},
    {
        "type": "tool_search_output",
        "call_id": "c6",
        "execution": "client",
        "tools": [{"type": "function", "name": "f"}],
    },
    {"type": "additional_tools", "role": "developer", "tools": [{"type": "custom", "name": "g"}]},
    {"type": "web_search_call", "action": {"type": "search", "query": "x"}},
    {"type": "file_search_call", "queries": ["x"], "results": [{"filename": "a", "text": "b"}]},
    {"type": "code_interpreter_call", "container_id": "c", "code": "1", "outputs": None},
    {"type": "image_generation_call", "result": None},
    {"type": "computer_call", "call_id": "c7", "action": {"type": "screenshot"}, "pending_safety_checks": []},
    {"type": "computer_call_output", "call_id": "c7", "output": {"type": "computer_screenshot", "file_id": "f"}},
    {"type": "mcp_list_tools", "server_label": "s", "tools": [{"name": "f", "input_schema": {}}]},
    {"type": "mcp_call", "server_label": "s", "name": "f", "arguments": "{}", "output": "x"},
    {"type": "mcp_approval_request", "server_label": "s", "name": "f", "arguments": "{}"},
    {"type": "mcp_approval_response", "approval_request_id": "a", "approve": True},
    {"type": "compaction", "encrypted_content": "gAAA"},
]


def test_items_of_every_kind_are_kept_in_their_full_form(client: openai.OpenAI, scripted_server: Server) -> None:
    answer = ask(client, ITEMS)
    more = ask(client, [*ITEMS, {"type": "unheard_of"}], previous_response_id=answer.id)
    page = scripted_server.get(f"{RESPONSES}/{more.id}/input_items?order=asc&limit=100", **SAME_KEY).json()
    kinds = [item.type for item in strict(ResponseItemList, page).data]
    given = [item["type"] for item in ITEMS]
    assert kinds == [*given, "message", *given]
    assert ask(client, page["data"]).status == answer.status


def test_what_of_a_request_changes_nothing_is_named(scripted_server: Server) -> None:
    tools = [{"type": "web_search"}, {"type": "function", "name": "f"}]
    items = [{"role": "user", "content": "Hi"}, {"type": "compaction", "encrypted_content": "gAAA"}, {"type": "odd"}]
    for more in ({}, {"stream": True}, {"background": True}):
        given = {"input": items, "tools": tools, "text": {"verbosity": "low"}, "nonsense": 1, **more}
        answer = scripted_server.post(RESPONSES, given)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-ignored-fields"].split(", ") == [
            "nonsense",
            "text.verbosity",
            "tools[0].web_search",
            "input[2].odd",
            "input[1].compaction",
        ]


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("?nonsense=a", "nonsense"),
        ("?include_obfuscation=maybe", "include_obfuscation"),
        ("?stream=maybe", "stream"),
        ("?stream=true", "stream"),
        ("?starting_after=1", "starting_after"),
        ("?stream=true&starting_after=x", "starting_after"),
        ("/input_items?limit=0", "limit"),
        ("/input_items?limit=101", "limit"),
        ("/input_items?order=up", "order"),
        ("/input_items?after=msg_0", "after"),
    ],
)
def test_wrong_query_is_refused_by_name(client: openai.OpenAI, scripted_server: Server, path: str, param: str) -> None:
    answer = scripted_server.get(f"{RESPONSES}/{ask(client).id}{path}", **SAME_KEY)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_one_key_cannot_see_what_another_one_keeps(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--api-key", "a", "--api-key", "b", wait=False)
    server.http.headers["x-api-key"] = "a"
    server.wait_ready()
    with sdk(server, api_key="a") as mine, sdk(server, api_key="b") as other:
        id_ = ask(mine).id
        running = ask(mine, script(first_token_s=60), background=True)
        for kept in (id_, running.id):
            calls = (other.responses.retrieve, other.responses.delete, other.responses.cancel)
            for call in (*calls, other.responses.input_items.list):
                with pytest.raises(openai.NotFoundError):
                    call(kept)
            with pytest.raises(openai.BadRequestError):
                ask(other, previous_response_id=kept)
        assert mine.responses.retrieve(id_).id == id_
        assert mine.responses.cancel(running.id).status == "cancelled"


def test_without_configured_keys_all_is_one_owners(scripted_server: Server) -> None:
    with sdk(scripted_server, api_key="a") as mine, sdk(scripted_server, api_key="b") as other:
        id_ = ask(mine).id
        assert other.responses.retrieve(id_).id == id_


def test_what_is_kept_survives_a_kill_and_a_restart(launch: Callable[..., Server], tmp_path: Path) -> None:
    killed = launch(*SCRIPTED, "--data-dir", tmp_path)
    with sdk(killed) as client:
        first = ask(client, "one")
        second = ask(client, "two", previous_response_id=first.id)
        running = ask(client, script(first_token_s=60), background=True)
        assert killed.stop(signal.SIGKILL) == -signal.SIGKILL
    with sdk(launch(*SCRIPTED, "--data-dir", tmp_path)) as client:
        assert client.responses.retrieve(second.id) == second
        third = ask(client, "three", previous_response_id=second.id)
        assert len(client.responses.input_items.list(third.id).data) == 5
        lost = client.responses.retrieve(running.id)
        assert (lost.status, lost.error.code) == ("failed", "server_error")
        assert client.responses.cancel(running.id).status == "failed"
        assert ask(client, "again", previous_response_id=running.id).output_text == "token "


def test_server_that_keeps_nothing_says_so(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--response-store", "off")
    with sdk(server) as client:
        answer = ask(client)
        assert answer.store is False
        assert ask(client, store=False).output_text == "token token "
        for given in ({"store": True}, {"background": True}, {"previous_response_id": answer.id}):
            with pytest.raises(openai.BadRequestError, match="keeps no responses") as caught:
                ask(client, **given)
            assert caught.value.param in given
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(answer.id)


def test_server_in_memory_leaves_no_file(launch: Callable[..., Server], tmp_path: Path) -> None:
    server = launch(*SCRIPTED, "--response-store", "memory", "--data-dir", tmp_path)
    with sdk(server) as client:
        answer = ask(client)
        assert client.responses.retrieve(answer.id) == answer
    assert list(tmp_path.glob("responses*")) == []


def test_response_that_cannot_be_kept_says_so(launch: Callable[..., Server], tmp_path: Path) -> None:
    server = launch(*SCRIPTED, "--data-dir", tmp_path)
    other = sqlite3.connect(tmp_path / "responses.sqlite3", isolation_level=None)
    with contextlib.closing(other), sdk(server) as client:
        other.execute("BEGIN IMMEDIATE")  # another process writes, and comes to no end
        assert ask(client).store is False
        *_, last = ask(client, stream=True)
        assert (last.type, last.response.store) == ("response.incomplete", False)
        other.execute("ROLLBACK")
        assert ask(client).store is True
    assert server.output().count("a response could not be kept: database is locked") == 2


def test_store_that_cannot_be_opened_ends_the_command_with_one_line(
    launch: Callable[..., Server], tmp_path: Path
) -> None:
    (tmp_path / "responses.sqlite3").write_text("no database " * 100)
    server = launch(*SCRIPTED, "--data-dir", tmp_path, wait=False)
    assert server.process.wait(30) == 3
    [line] = [line for line in server.output().splitlines() if "Error" in line]
    assert line.endswith("responses.sqlite3 can't be opened: file is not a database")
    assert "Traceback" not in server.output()


def test_prompts_and_answers_are_never_logged(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--log-level", "debug")
    secret = "my-secret-prompt"
    for more in ({}, {"stream": True}, {"background": True}, {"instructions": secret, "metadata": {secret: secret}}):
        post(server, script(text=secret), **more)
        post(server, script(text=secret, raise_at=2), **more)
    server.wait_stats(active_requests=0)
    assert secret not in server.output()


@pytest.mark.model
def test_real_model_answers_and_goes_on(smollm2_server: Server) -> None:
    with sdk(smollm2_server) as client:
        first = ask(client, FRANCE, temperature=0, max_output_tokens=20)
        assert (first.output_text, first.status) == (ANSWER, "completed")
        assert (first.usage.input_tokens, first.usage.output_tokens) == (37, 8)
        second = ask(client, "And of Italy?", temperature=0, max_output_tokens=20, previous_response_id=first.id)
        assert "Rome" in second.output_text
        sent = [{"role": "user", "content": FRANCE}, *first.output, {"role": "user", "content": "And of Italy?"}]
        assert ask(client, sent, temperature=0, max_output_tokens=20).output_text == second.output_text


@pytest.mark.model
def test_real_model_streams_what_it_answers_whole(smollm2_server: Server) -> None:
    with sdk(smollm2_server) as client:
        with client.responses.stream(model=MODEL, input=FRANCE, temperature=0, max_output_tokens=20) as events:
            deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
            final = events.get_final_response()
        assert "".join(deltas) == final.output_text == ANSWER
        assert len(deltas) > 3
        assert client.responses.retrieve(final.id).output_text == ANSWER


@pytest.mark.model
def test_real_model_that_is_cut_off_is_incomplete(smollm2_server: Server) -> None:
    answer = response(post(smollm2_server, FRANCE, temperature=0, max_output_tokens=3).content)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert answer.usage.output_tokens == 3


@pytest.mark.model
def test_real_model_calls_a_function_and_gets_its_result(smollm2_server: Server) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [{"type": "function", "name": "get_weather", "parameters": parameters}]
    given: dict[str, Any] = {
        "tools": tools,
        "parallel_tool_calls": False,
        "temperature": 0,
        "max_output_tokens": 60,
    }
    with sdk(smollm2_server) as client:
        first = ask(client, "How is the weather in Paris?", tool_choice="required", **given)
        [call] = [item for item in first.output if item.type == "function_call"]
        assert call.name == "get_weather"
        assert list(json.loads(call.arguments)) == ["city"]
        *_, last = ask(client, "How is the weather in Paris?", tool_choice="required", stream=True, **given)
        assert [item.type for item in last.response.output] == [item.type for item in first.output]
        assert last.response.output[-1].arguments == call.arguments
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
        second = ask(client, [result], previous_response_id=first.id, tool_choice="none", **given)
        assert second.output_text


@pytest.mark.model
def test_real_model_calls_a_custom_tool_with_a_text(smollm2_server: Server) -> None:
    given: dict[str, Any] = {
        "tools": [{"type": "custom", "name": "note", "description": "Notes a text."}, {"type": "web_search"}],
        "tool_choice": {"type": "custom", "name": "note"},
        "temperature": 0,
        "max_output_tokens": 60,
    }
    with sdk(smollm2_server) as client:
        [call] = ask(client, "Note the capital of France.", **given).output
        assert (call.type, call.name) == ("custom_tool_call", "note")
        assert call.input
        events = list(ask(client, "Note the capital of France.", stream=True, **given))
        deltas = [event.delta for event in events if event.type == "response.custom_tool_call_input.delta"]
        assert "".join(deltas) == call.input == events[-1].response.output[0].input
        result = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "Noted."}
        sent = [{"role": "user", "content": "Note the capital of France."}, call.to_dict(), result]
        assert ask(client, sent, max_output_tokens=5).output_text


@pytest.mark.model
def test_real_model_keeps_to_a_schema(smollm2_server: Server) -> None:
    class Person(BaseModel):
        name: str
        age: int

    with sdk(smollm2_server) as client:
        asked: dict[str, Any] = {"model": MODEL, "input": "Invent a person.", "max_output_tokens": 200}
        parsed = client.responses.parse(**asked, text_format=Person, temperature=0)
    assert isinstance(parsed.output_parsed, Person)


@pytest.mark.model
def test_real_model_reports_its_logprobs(smollm2_server: Server) -> None:
    asked: dict[str, Any] = {"temperature": 0, "max_output_tokens": 3, "top_logprobs": 2}
    answer = response(post(smollm2_server, FRANCE, include=["message.output_text.logprobs"], **asked).content)
    tokens = answer.output[0].content[0].logprobs
    assert "".join(token.token for token in tokens) == answer.output_text
    assert all(token.logprob == token.top_logprobs[0].logprob for token in tokens)
    assert {len(token.top_logprobs) for token in tokens} == {2}


@pytest.mark.model
def test_prompt_that_is_too_long_is_refused(smollm2_server: Server) -> None:
    with sdk(smollm2_server) as client, pytest.raises(openai.BadRequestError) as caught:
        ask(client, "word " * 10_000)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.model
def test_an_input_that_does_not_fit_is_named_as_the_client_names_it(smollm2_server: Server) -> None:
    answer = smollm2_server.post("/v1/responses", {"input": "one two " * 8192})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
