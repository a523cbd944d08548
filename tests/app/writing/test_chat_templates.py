"""Whose template makes the prompt, told by what the real model reads and by what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.running.servers import Server, chat_body
from support.running.streams import DONE, events, open_stream

pytestmark = pytest.mark.model

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SHOUTING = CHATML.replace("m.content +", "m.content | replace('France', country | default('Italy')) +")
LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
QUESTION = "What is the capital of France?"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_capital",
        "description": "The capital of a country",
        "parameters": {"type": "object", "properties": {"country": {"type": "string"}}},
    },
}


def ask(server: Server, text: str = QUESTION, **more: Any) -> str:
    response = server.chat(text, **{"max_tokens": 20, "temperature": 0, **more})
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


def refused(server: Server, **more: Any) -> tuple[str, str]:
    """The field and the message of a 400."""
    response = server.chat(QUESTION, max_tokens=5, **more)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    return error["param"], error["message"]


def tokens_of(server: Server, messages: list[dict[str, Any]], **more: Any) -> int:
    """How long the prompt is."""
    response = server.post("/v1/chat/completions", {"messages": messages, "max_tokens": 1, **more})
    assert response.status_code == 200, response.text
    return int(response.json()["usage"]["prompt_tokens"])


def test_a_clients_template_makes_the_prompt(smollm2_server: Server) -> None:
    assert "Paris" in ask(smollm2_server)
    assert "Rome" in ask(smollm2_server, chat_template=SHOUTING)
    assert "Berlin" in ask(smollm2_server, chat_template=SHOUTING, chat_template_kwargs={"country": "Germany"})


def test_roles_make_the_prompt(smollm2_server: Server) -> None:
    roles = {"user": "USER: ", "assistant": "ASSISTANT: ", "stop": "\n"}
    messages = [{"role": "user", "content": QUESTION}]
    plain = smollm2_server.complete(f"USER: {QUESTION}\nASSISTANT:", max_tokens=1).json()["usage"]["prompt_tokens"]
    assert tokens_of(smollm2_server, messages, role_mapping=roles) == plain


def test_a_last_message_is_gone_on_with(smollm2_server: Server) -> None:
    messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "The capital of France is"}]
    body = {"messages": messages, "max_tokens": 3, "temperature": 0, "continue_final_message": True}
    response = smollm2_server.post("/v1/chat/completions", body)
    assert response.json()["choices"][0]["message"]["content"].startswith(" Paris")


def test_a_template_that_never_ends_harms_nobody_else(smollm2_server: Server) -> None:
    body = chat_body("Write a long story.", max_tokens=60, ignore_eos=True)
    with open_stream(smollm2_server, body) as stream:
        chunks = events(stream.iter_lines())
        assert next(chunks)["object"] == "chat.completion.chunk"
        field, message = refused(smollm2_server, chat_template=LOOP)
        assert field == "chat_template"
        assert "took longer than 2 seconds" in message
        *_, last = chunks
        assert last == DONE
    assert "Paris" in ask(smollm2_server)
    assert smollm2_server.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("fields", "param", "part"),
    [
        ({"chat_template": "{% if %}"}, "chat_template", "line 1"),
        ({"chat_template": "{{ 'x' * 10**10 }}"}, "chat_template", "memory"),
        ({"chat_template": "{{ raise_exception('not today') }}"}, "messages", "not today"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages", "can't be set"),
        ({"chat_template_kwargs": {"style": 10**30}}, "chat_template_kwargs", "64 bits"),
        ({"role_mapping": {"robot": "R: "}}, "role_mapping.robot", "assistant"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": 10**30}}}]}, None, "64 bits"),
    ],
    ids=range(7),
)
def test_what_can_not_be_rendered_is_refused(
    smollm2_server: Server, fields: dict[str, Any], param: str | None, part: str
) -> None:
    field, message = refused(smollm2_server, **fields)
    assert field == (param or "tools[0].function.parameters")
    assert part in message


@pytest.mark.parametrize(
    "fields",
    [{"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"}],
    ids=["argument", "effort"],
)
def test_turning_off_a_reasoning_that_is_not_there_is_harmless(smollm2_server: Server, fields: dict[str, Any]) -> None:
    assert "Paris" in ask(smollm2_server, **fields)


def test_a_conversation_with_tools_goes_through_several_turns(smollm2_server: Server) -> None:
    function = {"name": "get_capital", "arguments": '{"country": "France"}'}
    messages: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
    lengths = [tokens_of(smollm2_server, messages, tools=[TOOL], tool_choice="none")]
    lengths.append(tokens_of(smollm2_server, messages, tools=[TOOL]))
    messages.append({"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": function}]})
    messages.append({"role": "tool", "tool_call_id": "call_1", "content": "It is Zarephath."})
    lengths.append(tokens_of(smollm2_server, messages, tools=[TOOL]))
    messages += [{"role": "assistant", "content": "Zarephath."}, {"role": "user", "content": "Thank you."}]
    lengths.append(tokens_of(smollm2_server, messages, tools=[TOOL]))
    assert lengths == sorted(set(lengths)), "each turn is read"
    messages[-1]["content"] = "Repeat only the name of the city that the tool has found."
    answer = smollm2_server.post("/v1/chat/completions", {"messages": messages, "max_tokens": 12, "temperature": 0})
    assert "Zarephath" in answer.json()["choices"][0]["message"]["content"]


def test_a_suffix_is_refused_by_a_model_that_has_not_learned_it(smollm2_server: Server) -> None:
    response = smollm2_server.complete("def f():", suffix="return 1", max_tokens=5)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "suffix"


def test_the_servers_own_template_and_arguments_are_used(
    launch: Callable[..., Server], smollm2: Path, tmp_path: Path
) -> None:
    file = tmp_path / "template.jinja"
    file.write_text(SHOUTING)
    flags = ("--chat-template", file, "--chat-template-args", '{"country": "Germany"}')
    server = launch("--model-path", smollm2, *flags)
    assert "Berlin" in ask(server)
    assert "Rome" in ask(server, chat_template_kwargs={"country": "Italy"})


def test_a_template_that_is_none_is_refused_before_the_server_is_ready(
    launch: Callable[..., Server], smollm2: Path, tmp_path: Path
) -> None:
    file = tmp_path / "template.jinja"
    file.write_text("{% if %}")
    server = launch("--model-path", smollm2, "--chat-template", file, wait=False)
    assert server.process.wait(60) == 3
    assert "the chat template is none: line 1" in server.output()
