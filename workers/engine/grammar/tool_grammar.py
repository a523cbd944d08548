"""Grammars that force calls, and their arguments to be what the functions take, in llguidance's notation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llguidance import LLMatcher

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Grammar, Tool, ToolUse
from mlx_server.workers.engine.grammar.call_forms import (
    Callee,
    CallForm,
    Special,
    before_special,
    lark,
    literal,
    named_in,
    writing_for,
)
from mlx_server.workers.engine.grammar.json_schema import Enforceable, enforceable
from mlx_server.workers.engine.grammar.raw_texts import regex, without
from mlx_server.workers.engine.grammar.schema_search import Objection, settled
from mlx_server.workers.engine.grammar.vocabulary import Vocabulary, source_of
from mlx_server.workers.engine.output.tool_calls.call_writing import Writing
from mlx_server.workers.engine.output.tool_calls.json_calls import ARGUMENT_KEYS, NAME_KEYS
from mlx_server.workers.engine.output.tool_calls.tool_formats import HARMONY, ToolFormat

MOST_CALLS = 16
"""Calls of one answer; a model that may go on calling sometimes never stops."""

COMPOSED = ("$ref", "allOf", "anyOf", "oneOf", "patternProperties", "additionalProperties", "if", "not")
"""Keywords beside which `properties` is not the whole list."""

MOST_ASIDES = 8
"""Messages of Harmony's before the last."""

BARE_CALL = r"\s*\[?\s*\{\s*" + f"[\"'](?:{'|'.join((*NAME_KEYS, *ARGUMENT_KEYS))})" + r"[\"'](?s:.*)"
"""A text that would be read as a call without marks."""

HARMONY_JSON = Writing("<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>")
"""The mark behind a call ends the answer, as others' end of turn does."""

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CallsGrammar:
    """A grammar in llguidance's notation, and the paths of what is not enforced in it.

    `heads` are the texts that functions' arguments stand behind as JSON, with the functions' indices.
    """

    source: str
    heads: dict[bytes, int]
    ignored: tuple[str, ...] = ()


def special_tokens(tokenizer: Any, vocabulary: Vocabulary) -> Special:
    """What llguidance takes for special tokens, with their ids."""
    added = tokenizer.get_added_vocab()
    return {text: id_ for text, id_ in added.items() if vocabulary.tokens.is_special_token(id_)}


def enforced(tools: tuple[Tool, ...], tool_use: ToolUse, content: Grammar | None) -> bool:
    """Whether a grammar is needed for a request's calls."""
    if not tools or tool_use.choice == "none":
        return False
    return (
        tool_use.choice != "auto" or content is not None or any(tool.strict or tool.text is not None for tool in tools)
    )


def tool_grammar(
    format_: ToolFormat,
    callees: list[Callee],
    tool_use: ToolUse,
    content: Grammar | None,
    special: Special,
    content_source: Callable[[Grammar], str] = source_of,
    *,
    named: bool = False,
) -> CallsGrammar:
    """The grammar of an answer after its reasoning, in which these functions can be called.

    With calls that must be made, `content` is not looked at: such an answer has no text. Otherwise the answer is
    text, or what `content` allows, or calls. Calls are written as the model writes them itself, or as JSON objects with
    names between the same marks if that can't hold them, or if it is `named`. Raises InvalidRequest.
    """
    writing = named_in(format_) if named else writing_for(format_, callees)
    if format_ is HARMONY:
        writing = HARMONY_JSON
    forms = {callee: CallForm(format_, writing, special, callee) for callee in callees}
    rules = [f"body: {' | '.join(f'call_{callee.index}' for callee in callees)}"]
    rules += [rule for form in forms.values() for rule in form.rules]
    most = MOST_CALLS if tool_use.parallel and tool_use.choice != "named" else 1
    content = content if tool_use.choice == "auto" else None
    if format_ is HARMONY:
        rules += harmony_rules(special, forced=tool_use.choice != "auto", content=content)
    elif tool_use.choice != "auto" or content is not None:
        rules += block_rules(format_, writing, most, special)
        rules.append("start: calls" if tool_use.choice != "auto" else "start: calls | @content")
    else:
        rules += mixed_rules(format_, writing, most, special)
    grammars = {name: grammar for form in forms.values() for name, grammar in form.content.items()}
    if content is not None:
        grammars["content"] = content
    heads = {form.watched: callee.index for callee, form in forms.items() if form.watched}
    ignored = tuple(path_of(form.left_out) for form in forms.values() if form.left_out is not None)
    return CallsGrammar(grammar(rules, grammars, content_source), heads, ignored)


def callable_tools(tools: tuple[Tool, ...], tool_use: ToolUse) -> list[tuple[int, Tool]]:
    """The tools that may be called, with their indices. Raises InvalidRequest if there are none."""
    named = tool_use.choice == "named"
    found = [(index, tool) for index, tool in enumerate(tools) if not named or tool.name == tool_use.name]
    if not found:
        raise InvalidRequest(f"`tool_choice` names {tool_use.name!r}, which is not in `tools`.", "tool_choice")
    return found


def block_rules(format_: ToolFormat, writing: Writing, most: int, special: Special) -> Iterable[str]:
    """Calls one behind the other, in one block or in blocks of their own."""
    again = most - 1
    if writing.between is not None:
        yield rest_rule(format_, writing, most, special)
        yield f"calls: {lark(start_of(format_, writing), special)} rest"
    else:
        yield rest_rule(format_, writing, 1, special)
        yield f"call: {lark(start_of(format_, writing), special)} rest"
        yield "calls: call" + (f" ({lark(writing.blocks, special)} call){{0,{again}}}" if again else "")


def rest_rule(format_: ToolFormat, writing: Writing, most: int, special: Special) -> str:
    """A block after its mark."""
    more = f" ({lark(writing.between or '', special)} body){{0,{most - 1}}}" if most > 1 else ""
    return f"rest: {lark(writing.before, special)} body{more} {lark(writing.after + format_.end, special)}"


def start_of(format_: ToolFormat, writing: Writing) -> str:
    """The mark of a block; models that know calls without it write none."""
    return "" if format_.bare and writing is format_.writing else format_.start


def mixed_rules(format_: ToolFormat, writing: Writing, most: int, special: Special) -> Iterable[str]:
    """Free text with calls in it. Behind a block without an end there is none."""
    start = start_of(format_, writing)
    one_block = writing.between is not None
    yield rest_rule(format_, writing, most if one_block else 1, special)
    text = without([format_.open])
    if not start:
        yield "start: rest | TEXT"
        yield f"TEXT: {text} & ~{regex(BARE_CALL)}"
        return
    blocks = 1 if one_block or not format_.end else most
    if format_.end:
        yield f"start: (trigger rest){{0,{blocks}}} tail"
        yield "tail: TEXT"
    else:
        yield "start: TEXT | trigger rest"
    lead, token = before_special(start, special)
    if token:
        yield f"trigger: LEAD {lark(token, special)}"
        yield f"LEAD: ({text}) {literal(lead)}"
    else:
        yield f"trigger[lazy]: TEXT {literal(start)}"
    yield f"TEXT: {text}"


def harmony_rules(special: Special, *, forced: bool, content: Grammar | None) -> Iterable[str]:
    """Messages on channels; the first are reasoning, and what is said before calls. A call is the last."""
    message = "/(?s:.*)/" if content is None else "@content"
    again = lark("<|end|><|start|>assistant", special)
    opening, begin = lark("<|channel|>", special), lark("<|message|>", special)
    channels = '"analysis"' if forced or content is not None else '"analysis" | "commentary"'
    yield f"aside: {opening} ({channels}) {begin} /(?s:.*)/ {again}"
    yield f"start: aside{{0,{MOST_ASIDES}}} " + ("body" if forced else f'(body | {opening} "final" {begin} said)')
    if not forced:
        yield f"said: {message}"


def grammar(rules: list[str], others: Mapping[str, Grammar], content_source: Callable[[Grammar], str]) -> str:
    """llguidance's grammar of these rules, in which `@name` is one of the others."""
    lines = "\n".join(["%llguidance {}", *rules])
    if not others:
        return LLMatcher.grammar_from_lark(lines)
    grammars = [{"name": "calls", "lark_grammar": lines}]
    for name, other in others.items():
        source = content_source(other)
        composed = other.kind in ("json_schema", "regex")
        inner = json.loads(source)["grammars"][0] if composed else {"lark_grammar": source}
        grammars.append({**inner, "name": name})
    return json.dumps({"grammars": grammars})


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
        if isinstance(required, list) and all(isinstance(name, str) and name in properties for name in required):
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


def path_of(text: Grammar) -> str:
    """Where the grammar of a function's text stands in the request."""
    return text.param.removesuffix(".definition")


def param_of(index: int, tool: Tool) -> str:
    """Where a function's schema stands in the request."""
    return tool.param or f"tools[{index}].function.parameters"


def refused(index: int, tool: Tool, reason: str) -> InvalidRequest:
    """The refusal of a function's schema."""
    param = param_of(index, tool)
    return InvalidRequest(f"`{param}` (of {tool.name!r}): {reason}", param, "invalid_function_parameters")
