"""What a template knows of tools, found out by trying it, and how they are told to a model whose template does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import Message, Tool
from mlx_server.workers.engine.templates.content import ContentForm, appended
from mlx_server.workers.engine.templates.kinds import ChatTemplate, Conversation

PROBE, PROBE_ARGUMENT, PROBE_RESULT, PROBE_RULE = "probe_function", "probe_value", "probe_result", "probe_rule"
LONG_ID, SHORT_ID = "call_0123456789abcdef01234567", "abcdefgh1"

ArgumentsAs = Literal["object", "string"]
FORMS: tuple[tuple[ArgumentsAs, str], ...] = (
    ("object", LONG_ID),
    ("object", SHORT_ID),
    ("string", LONG_ID),
    ("string", SHORT_ID),
)
"""How calls may be written, as most templates want them first."""

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
    `tools_by_system`: it shows tools only where there is a system message."""

    tools: bool = False
    calls: bool = False
    results: bool = False
    arguments: ArgumentsAs = "object"
    short_ids: bool = False
    tools_by_system: bool = False


def probe(template: ChatTemplate, arguments: Mapping[str, Any], form: ContentForm) -> Knowledge:
    """Find out by rendering conversations and looking at what is left of them; a refusal is a no."""
    user, rule = said("user", "probe", form), said("system", PROBE_RULE, form)
    tools = openai_tools((Tool(PROBE, "probe"),))
    shown = PROBE in tried(template, Conversation([user], tools, arguments))
    by_system = not shown and PROBE in tried(template, Conversation([rule, user], tools, arguments))
    knows = Knowledge(shown or by_system, tools_by_system=by_system)
    calls_only: Knowledge | None = None
    for arguments_as, id_ in FORMS:
        text = tried(template, Conversation([user, *probe_call(arguments_as, id_, form)], None, arguments))
        if PROBE_ARGUMENT in text and PROBE in text:
            results = PROBE_RESULT in text
            found = replace(knows, calls=True, results=results, arguments=arguments_as, short_ids=id_ == SHORT_ID)
            if found.results:
                return found
            calls_only = calls_only or found
    return calls_only or knows


def said(role: str, text: str, form: ContentForm) -> dict[str, Any]:
    """A message as the template reads it."""
    return {"role": role, "content": form.of(Message(role, text))}


def probe_call(arguments_as: ArgumentsAs, id_: str, form: ContentForm) -> list[dict[str, Any]]:
    """A call and its result."""
    values = {"probe_name": PROBE_ARGUMENT}
    function = {"name": PROBE, "arguments": values if arguments_as == "object" else json.dumps(values)}
    calls = [{"id": id_, "type": "function", "function": function}]
    return [
        {**said("assistant", "", form), "tool_calls": calls},
        {**said("tool", PROBE_RESULT, form), "tool_call_id": id_, "name": PROBE},
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
