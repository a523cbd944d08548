"""What a template knows of tools, found out by trying it, and how they are told to a model whose template does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal, get_args

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Message, Tool
from mlx_server.workers.engine.prompt.templates.content import ContentForm, appended
from mlx_server.workers.engine.prompt.templates.kinds import ChatTemplate, Conversation

PROBE, PROBE_ARGUMENT, PROBE_RESULT, PROBE_RULE = "probe_function", "probe_value", "probe_result", "probe_rule"
LONG_ID, SHORT_ID = "call_0123456789abcdef01234567", "abcdefgh1"

NOTHING_SAID = ("None", "null")
"""What a template prints that does not ask whether anything is said."""

ArgumentsAs = Literal["object", "string"]

DESCRIPTION = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{functions}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""
"""As the Hermes and Qwen models were taught."""


@dataclass(frozen=True)
class Knowledge:
    """What a template does with tools. `short_ids`: it takes ids of nine letters and digits only, as Mistral's do.
    `null_content`: it takes a turn of calls alone with no content, as clients send it, not only with an empty one.
    `tools_by_system`: it shows tools only where there is a system message."""

    tools: bool = False
    calls: bool = False
    results: bool = False
    arguments: ArgumentsAs = "object"
    short_ids: bool = False
    null_content: bool = False
    tools_by_system: bool = False


FORMS = tuple(
    Knowledge(calls=True, arguments=arguments, short_ids=short_ids, null_content=null_content)
    for arguments, short_ids, null_content in product(get_args(ArgumentsAs), (False, True), (True, False))
)
"""How calls may be written, as most templates want them first."""


def probe(template: ChatTemplate, arguments: Mapping[str, Any], form: ContentForm) -> Knowledge:
    """Find out by rendering conversations and looking at what is left of them; a refusal is a no."""
    user, rule = probe_message("user", "probe", form), probe_message("system", PROBE_RULE, form)
    tools = openai_tools((Tool(PROBE, "probe"),))
    shown = PROBE in tried(template, Conversation([user], tools, arguments))
    by_system = not shown and PROBE in tried(template, Conversation([rule, user], tools, arguments))
    knows = Knowledge(shown or by_system, tools_by_system=by_system)
    calls_only: Knowledge | None = None
    for way in FORMS:
        text = tried(template, Conversation([user, *probe_call(way, form)], None, arguments))
        if way.null_content and any(word in text for word in NOTHING_SAID):
            continue
        if PROBE_ARGUMENT in text and PROBE in text:
            found = replace(way, tools=knows.tools, results=PROBE_RESULT in text, tools_by_system=by_system)
            if found.results:
                return found
            calls_only = calls_only or found
    return calls_only or knows


def probe_message(role: str, text: str, form: ContentForm) -> dict[str, Any]:
    """A message as the template reads it."""
    return {"role": role, "content": form.of(Message(role, text))}


def probe_call(way: Knowledge, form: ContentForm) -> list[dict[str, Any]]:
    """A call and its result, written in this way."""
    values, id_ = {"probe_name": PROBE_ARGUMENT}, SHORT_ID if way.short_ids else LONG_ID
    function = {"name": PROBE, "arguments": values if way.arguments == "object" else json.dumps(values)}
    calls = [{"id": id_, "type": "function", "function": function}]
    content = None if way.null_content else probe_message("assistant", "", form)["content"]
    return [
        {"role": "assistant", "content": content, "tool_calls": calls},
        {**probe_message("tool", PROBE_RESULT, form), "tool_call_id": id_, "name": PROBE},
    ]


def tried(template: ChatTemplate, conversation: Conversation) -> str:
    """The prompt; nothing where the template refuses."""
    try:
        return template.render(conversation)
    except InvalidRequest:
        return ""


def openai_tools(tools: tuple[Tool, ...]) -> list[dict[str, Any]]:
    """Tools as OpenAI's API has them, and as templates expect them."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description or "",
                "parameters": tool.parameters or {"type": "object", "properties": {}},
                **({"strict": True} if tool.strict else {}),
            },
        }
        for tool in tools
    ]


def describe(tools: list[dict[str, Any]]) -> str:
    """What a model is told of the tools if its template does not tell it."""
    return DESCRIPTION.format(functions="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))


def with_description(messages: list[Message], text: str) -> list[Message]:
    """The messages with a text after what the system says first."""
    first, *others = messages
    if first.role != "system":
        return [Message("system", text), *messages]
    return [appended(first, Message("system", text), "\n\n"), *others]
