"""Grammars that force calls, and their arguments to be what the functions take, in llguidance's notation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from llguidance import LLMatcher

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import Grammar, Tool, ToolUse
from mlx_server.workers.engine.json_schema import Enforceable, enforceable
from mlx_server.workers.engine.schema_search import JSON_STYLE, Objection, settled
from mlx_server.workers.engine.tool_formats import ToolFormat, answer_format
from mlx_server.workers.engine.vocabulary import Vocabulary, source_of

MOST_CALLS = 16
"""Calls of one answer; a model that may go on calling sometimes never stops."""

COMPOSED = ("$ref", "allOf", "anyOf", "oneOf", "patternProperties", "additionalProperties", "if", "not")
"""Keywords beside which `properties` is not the whole list."""

NEWLINE = r'"\n"'

Schema = dict[str, Any]

Special = Callable[[str], int | None]
"""The id of the special token that a text is, else None."""


def special_tokens(tokenizer: Any, vocabulary: Vocabulary) -> Special:
    """What llguidance takes for a special token: no string in a grammar stands for one."""
    ids = tokenizer.get_vocab()

    def special(text: str) -> int | None:
        id_ = ids.get(text)
        return id_ if id_ is not None and vocabulary.tokens.is_special_token(id_) else None

    return special


def enforced(tools: tuple[Tool, ...], tool_use: ToolUse, content: Grammar | None) -> bool:
    """Whether a grammar is needed for a request's calls."""
    if not tools or tool_use.choice == "none":
        return False
    return tool_use.choice != "auto" or content is not None or any(tool.strict for tool in tools)


def tool_grammar(
    native: ToolFormat,
    tools: tuple[Tool, ...],
    tool_use: ToolUse,
    content: Grammar | None,
    special: Special,
    arguments: Callable[[int, Tool], Schema] | None = None,
    content_source: Callable[[Grammar], str] = source_of,
) -> str | None:
    """The grammar of an answer after its reasoning; None if nothing about calls is enforced.

    `arguments` gives the schemas that are enforced of functions, as llguidance takes them; by default those that are
    known to be enforceable.

    With calls that must be made, `content` is not looked at: such an answer has no text. Otherwise the answer is
    text, or what `content` allows, or calls. Calls are Hermes' JSON between the marks of `answer_format`, in which
    `markup` must read them. Raises InvalidRequest.
    """
    if not enforced(tools, tool_use, content):
        return None
    format_ = answer_format(native, tool_use, enforced=True)
    callable_ = callable_tools(tools, tool_use)
    most = MOST_CALLS if tool_use.parallel and tool_use.choice != "named" else 1
    schema_of = arguments or (lambda index, tool: enforced_arguments(index, tool).schema)
    rules = [f"body: {' | '.join(f'call_{index}' for index, _ in callable_)}"]
    for index, tool in callable_:
        head = literal(head_of(tool))
        schema = {**schema_of(index, tool), "x-guidance": JSON_STYLE}
        rules.append(f"call_{index}: {head} %json {json.dumps(schema)} {literal('}')}")
    rules.append(f"rest: {NEWLINE} body {NEWLINE} {mark(format_.end, special)}")
    opening = mark(format_.start, special)
    if tool_use.choice != "auto" or content is not None:
        rules.append(f"call: {opening} rest")
        rules.append("calls: call" + (f" ({NEWLINE} call){{0,{most - 1}}}" if most > 1 else ""))
        rules.append("start: calls" if tool_use.choice != "auto" else "start: calls | @content")
    else:
        rules += mixed_rules(native, format_, most, special)
    return grammar(rules, content if tool_use.choice == "auto" else None, content_source)


def head_of(tool: Tool) -> str:
    """What stands in a call before the arguments."""
    return f'{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "arguments": '


def callable_tools(tools: tuple[Tool, ...], tool_use: ToolUse) -> list[tuple[int, Tool]]:
    """Those that may be called, with their places. Raises InvalidRequest if there are none."""
    named = tool_use.choice == "named"
    found = [(index, tool) for index, tool in enumerate(tools) if not named or tool.name == tool_use.name]
    if not found:
        raise InvalidRequest(f"`tool_choice` names {tool_use.name!r}, which is not in `tools`.", "tool_choice")
    return found


def mixed_rules(native: ToolFormat, format_: ToolFormat, most: int, special: Special) -> Iterable[str]:
    """Free text with calls in it. The model's own marks can't be in the text: nobody would read what they enclose."""
    foreign = native.start if native is not format_ and special(native.start) is None else ""
    if special(format_.start) is not None:
        yield f"start: TEXT ({mark(format_.start, special)} rest TEXT){{0,{most}}}"
    else:
        yield f"start: (trigger rest){{0,{most}}} tail"
        yield f"trigger[lazy]: TEXT {literal(format_.start)}"
        yield "tail: TEXT"
    anything = "/(?s:.*)/"
    yield f"TEXT: {anything}" + (f" & ~({anything} {literal(foreign)} {anything})" if foreign else "")


def grammar(rules: list[str], content: Grammar | None, content_source: Callable[[Grammar], str]) -> str:
    """llguidance's grammar of these rules, where `@content` is what the text must be."""
    lark = "\n".join(["%llguidance {}", *rules])
    if content is None:
        return LLMatcher.grammar_from_lark(lark)
    source = content_source(content)
    composed = content.kind in ("json_schema", "regex")
    inner = json.loads(source)["grammars"][0] if composed else {"lark_grammar": source}
    return json.dumps({"grammars": [{"name": "calls", "lark_grammar": lark}, {**inner, "name": "content"}]})


def arguments_schema(index: int, tool: Tool) -> dict[str, Any]:
    """The schema of a call's arguments: an object's.

    Where `properties` lists what there is and nothing is said of others, there are none: a model that is free to
    invent arguments does so, and what it may not leave out is still the schema's. Raises InvalidRequest.
    """
    schema: dict[str, Any] = tool.parameters if tool.parameters is not None else {"type": "object", "properties": {}}
    kind = schema.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise refused(index, tool, f"a function's arguments are an object, so `type` must be 'object', not {kind!r}")
    schema = {**schema, "type": "object"}
    properties = schema.get("properties")
    if isinstance(properties, dict) and not any(word in schema for word in COMPOSED):
        required = schema.get("required", [])
        if isinstance(required, list) and all(name in properties for name in required):
            schema["additionalProperties"] = False
    return schema


def enforced_arguments(index: int, tool: Tool, objection: Objection | None = None) -> Enforceable:
    """What is enforced of a call's arguments; with an `objection`, so much that there is none. Raises InvalidRequest
    for what a strict function's schema asks for and can't be had."""
    schema, param = arguments_schema(index, tool), param_of(index, tool)
    try:
        if objection is None:
            return enforceable(schema, param, guaranteed=tool.strict)
        return settled(schema, param, objection, guaranteed=tool.strict)
    except InvalidRequest as error:
        message = f"{error.message} This is a schema of the function {tool.name!r}."
        raise InvalidRequest(message, error.param, "invalid_function_parameters") from None


def param_of(index: int, tool: Tool) -> str:
    """Where a function's schema stands in the request."""
    return tool.param or f"tools[{index}].function.parameters"


def refused(index: int, tool: Tool, reason: str) -> InvalidRequest:
    """The refusal of a function's schema."""
    param = param_of(index, tool)
    return InvalidRequest(f"`{param}` (of {tool.name!r}): {reason}", param, "invalid_function_parameters")


def mark(text: str, special: Special) -> str:
    """A mark as the special token that it is, else as its characters."""
    id_ = special(text)
    return literal(text) if id_ is None else f"<[{id_}]>"


def literal(text: str) -> str:
    """A string in Lark."""
    return json.dumps(text, ensure_ascii=False)
