"""One function's calls as a grammar, in the way that a model's family writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlx_server.schemas.internal.generation import Grammar, Tool
from mlx_server.workers.engine.grammar.json_watch import watches
from mlx_server.workers.engine.grammar.raw_texts import (
    Choice,
    Fixed,
    Json,
    Raw,
    Schema,
    UnsayableError,
    choices_of,
    kind_of,
    regex,
    types_of,
    without,
)
from mlx_server.workers.engine.grammar.schema_search import JSON_STYLE
from mlx_server.workers.engine.output.tool_calls.argument_types import NESTED, NULL, STRING, Parameters, argument
from mlx_server.workers.engine.output.tool_calls.call_writing import NAMED, Writing
from mlx_server.workers.engine.output.tool_calls.headed_calls import Heads
from mlx_server.workers.engine.output.tool_calls.loose_json import BARE_KEY
from mlx_server.workers.engine.output.tool_calls.tagged_calls import CDATA, Tags
from mlx_server.workers.engine.output.tool_calls.tool_formats import ToolFormat

Special = Mapping[str, int]
"""The special tokens' ids: no string in a grammar stands for one."""

PLAIN = frozenset({"type", "properties", "required", "additionalProperties", "$defs"})
"""The keywords of an object of which each argument can stand alone."""

HOLES = re.compile(r"\{(?:index|id|nl)\}")
IN_LARK = {"{index}": "/[0-9]{1,2}/", "{id}": "/[a-zA-Z0-9]{9}/", "{nl}": r'"\n"?'}
EXAMPLE = {"{index}": "0", "{id}": "000000000", "{nl}": "\n"}
IDENTIFIER = re.compile(r"[^\W\d]\w*")
PYTHON_WORDS = {"null": "None", "true": "True", "false": "False"}


@dataclass(frozen=True, slots=True, eq=False)
class Callee:
    """A function that may be called: what is enforced of its arguments, as llguidance takes it, and of its text.

    `quoted` is a Lark grammar of that text as it stands in a JSON string, where there is one.
    """

    index: int
    tool: Tool
    schema: Schema
    text: Grammar | None = None
    quoted: Grammar | None = None


def example(text: str) -> str:
    """What a family's text may look like."""
    return HOLES.sub(lambda hole: EXAMPLE[hole[0]], text)


def lark(text: str, special: Special) -> str:
    """A family's text in Lark: special tokens as such, the rest as characters."""
    tokens = sorted((token for token in special if token in text), key=len, reverse=True)
    parts = re.split("(" + "|".join([HOLES.pattern, *map(re.escape, tokens)]) + ")", text)
    found = [
        IN_LARK.get(part) or (f"<[{special[part]}]>" if part in special else literal(part)) for part in parts if part
    ]
    return " ".join(found) or '""'


def literal(text: str) -> str:
    """A string in Lark."""
    return json.dumps(text, ensure_ascii=False)


def before_special(text: str, special: Special) -> tuple[str, str]:
    """A text up to its first special token, and from that on; text before it can be any up to the token itself."""
    at = min((text.index(token) for token in special if token in text), default=len(text))
    return text[:at], text[at:]


def head_of(writing: Writing, tool: Tool) -> str:
    """What stands in a call before the arguments."""
    name = json.dumps(tool.name, ensure_ascii=False)[1:-1] if writing.head.startswith('{"') else tool.name
    return writing.head.replace("{name}", name)


def writing_for(format_: ToolFormat, callees: list[Callee]) -> Writing:
    """How these functions' calls are written: JSON objects with names where the family's own way can't hold one."""
    fits = all(holds(format_, callee) for callee in callees)
    return format_.writing if fits else named_in(format_)


def named_in(format_: ToolFormat) -> Writing:
    """Objects with names between a format's marks; all in one block if nothing ends that."""
    return NAMED if format_.end else replace(NAMED, between="\n")


def holds(format_: ToolFormat, callee: Callee) -> bool:
    """Whether a function's calls can be written in a format's own way and are read there."""
    writing = format_.writing
    head, body = example(head_of(writing, callee.tool)), format_.body
    if writing.head.startswith('{"'):
        return True
    match body:
        case Heads():
            found = body.head.search(head + body.notation.opener)
            if found is None or found.group(1).strip() != callee.tool.name:
                return False
            return writing.arguments == "json" or listed(callee, writing, format_)
        case Tags():
            found = body.call.match(head + "{" + format_.end)
            return found is not None and found["name"].strip() == callee.tool.name
    return True


def listed(callee: Callee, writing: Writing, format_: ToolFormat) -> bool:
    """Whether each argument can stand alone, with its name before it."""
    schema = callee.schema
    if set(schema) - PLAIN or schema.get("additionalProperties") is not False or watches(schema):
        return False
    properties = schema.get("properties", {})
    if not set(schema.get("required", ())) <= set(properties):
        return False
    return all(part is not False and has_key(key, writing, format_) for key, part in properties.items())


def has_key(key: str, writing: Writing, format_: ToolFormat) -> bool:
    """Whether an argument's name is read as it is."""
    if writing.arguments == "python":
        return IDENTIFIER.fullmatch(key) is not None
    if writing.arguments == "braces":
        return BARE_KEY.fullmatch(key) is not None
    assert isinstance(format_.body, Tags)
    found = format_.body.argument.match(example(opening(writing, key, "string", text=True)))
    return found is not None and found["key"] == key


def opening(writing: Writing, key: str, kind: str, *, text: bool) -> str:
    """What stands before an argument."""
    written = writing.key.replace("{type}", kind).replace("{string}", "true" if text else "false")
    return written.replace("{key}", key)


class CallForm:
    """One function's rules; `rules` ends with that for `call_<index>`. `content` are grammars that its rules name."""

    def __init__(self, format_: ToolFormat, writing: Writing, special: Special, callee: Callee) -> None:
        self.rules: list[str] = []
        self.content: dict[str, Grammar] = {}
        self.watched: bytes = b""
        """The text behind which its arguments are JSON; empty where they are not."""
        self.left_out: Grammar | None = None
        """That of its text, if JSON's strings can't be held to it."""
        self._format = format_
        self._writing = writing
        self._special = special
        self._callee = callee
        self._schema = callee.schema
        self._parameters = Parameters(callee.tool.parameters)
        self._count = 0
        head, foot = head_of(writing, callee.tool), writing.foot
        body = self._arguments()
        if body is None:
            if watches(self._schema):
                head = example(head)
            self.watched = example(head).encode()
            body = self._object()
        self._rule(f"call_{callee.index}", f"{lark(head, special)} {body} {lark(foot, special)}")

    def _rule(self, name: str, body: str) -> str:
        self.rules.append(f"{name}: {body}")
        return name.partition("[")[0]

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._callee.index}_{self._count}"

    def _json(self, schema: Schema) -> str:
        definitions = {"$defs": self._schema["$defs"]} if "$defs" in self._schema else {}
        return f"%json {json.dumps({**definitions, **schema, 'x-guidance': JSON_STYLE})}"

    def _object(self) -> str:
        """All arguments as one JSON object."""
        keys = list(self._schema.get("properties", {}))
        if (string := self._string()) is None or len(keys) != 1:
            return self._json(self._with_text())
        return f"{literal('{' + json.dumps(keys[0]) + ': ')} {string} {literal('}')}"

    def _string(self) -> str | None:
        """A text of a Lark grammar as a JSON string; None if it has another one, or can't be held to it."""
        text = self._callee.text
        if text is None or text.kind == "regex":
            return None
        if self._callee.quoted is None:
            self.left_out = text
            return None
        quote = literal('"')
        return f"{quote} {self._text_value(self._callee.quoted)} {quote}"

    def _with_text(self) -> Schema:
        """The arguments' schema; a text that must match an expression does so in its string."""
        text = self._callee.text
        return self._schema if text is None else text_schema(self._schema, text)

    def _arguments(self) -> str | None:
        """All arguments, each alone; None where they are one JSON object."""
        if self._writing.arguments == "json" or not listed(self._callee, self._writing, self._format):
            return None
        properties = self._schema.get("properties", {})
        required = set(self._schema.get("required", ()))
        try:
            items = [(self._item(key, part), key in required) for key, part in properties.items()]
        except UnsayableError:
            return None
        if self._writing.arguments == "tags":
            return " ".join(item if must else f"({item})?" for item, must in items)
        return self._comma_separated(items, ", " if self._writing.arguments == "python" else ",")

    def _comma_separated(self, items: list[tuple[str, bool]], comma: str) -> str:
        """Items with commas between those that are there."""
        first, more = '""', '""'
        for item, must in reversed(items):
            after = self._rule(self._name("more"), more)
            none = self._rule(self._name("first"), first)
            first = f"{item} {after}" + ("" if must else f" | {none}")
            more = f"{literal(comma)} {item} {after}" + ("" if must else f" | {after}")
        return self._rule(self._name("list"), first)

    def _item(self, key: str, schema: Any) -> str:
        """The rule of one argument with its name. Raises UnsayableError."""
        schema = {} if schema is True else schema
        text = self._callee.text
        match self._writing.arguments:
            case "tags":
                choices = self._tagged(key, schema) if text is None else [self._tagged_text(key, text)]
            case "braces":
                values = self._braced(schema) if text is None else [self._braced_text(text)]
                choices = [f"{literal(opening(self._writing, key, '', text=True))} ({' | '.join(values)})"]
            case _:
                string = self._string()
                values = [string] if string else self._python(self._with_text()["properties"][key])
                choices = [f"{literal(key + '=')} ({' | '.join(values)})"]
        return self._rule(self._name("item"), " | ".join(choices))

    def _tagged(self, key: str, schema: Schema) -> list[str]:
        body = self._format.body
        assert isinstance(body, Tags)
        kinds = self._parameters.kinds(key)
        if body.text:
            return self._typed(key, schema, kinds)
        if STRING not in kinds:
            return [self._tag(key, "", self._json(schema), text=False)]
        ends = [self._tagged_choice(choice, kinds) for choice in choices_of(schema, self._schema.get("$defs", {}))]
        ends = [end for end in ends if end]
        if not ends:
            raise UnsayableError
        return [f"{lark(opening(self._writing, key, STRING, text=True), self._special)} ({' | '.join(ends)})"]

    def _tagged_choice(self, choice: Choice, kinds: frozenset[str]) -> str:
        """A value with its closing tag; empty for one that would be read as another."""
        end = lark(self._writing.value_end, self._special)
        match choice:
            case Raw(conditions):
                return self._raw(conditions, "" if not kinds & NESTED else r"\s*[\[{](?s:.*)")
            case Json(schema):
                kept = [kind for kind in types_of(schema) or () if kind in NESTED]
                return f"{self._json({**schema, 'type': kept})} {end}" if kept else ""
            case Fixed(value):
                text = value if isinstance(value, str) else json.dumps(value)
                if any(mark in text for mark in self._closing()) or json.loads(argument(text, kinds)) != value:
                    return ""
                return f"{lark(text, {})} {end}"

    def _typed(self, key: str, schema: Schema, kinds: frozenset[str]) -> list[str]:
        """Tags that tell whether their value is a string."""
        try:
            choices: list[Choice] = choices_of(schema, self._schema.get("$defs", {}))
        except UnsayableError:
            choices = [Json(schema)]
        kind = next(iter(sorted(kinds - {STRING})), "object").replace("integer", "number")
        found = []
        for choice in choices:
            match choice:
                case Raw(conditions):
                    found.append(f"{self._opened(key, STRING, text=True)} {self._raw(conditions)}")
                case Json(inner):
                    found.append(self._tag(key, kind, self._json(inner), text=False))
                case Fixed(value) if not isinstance(value, str):
                    found.append(self._tag(key, kind_name(value), literal(json.dumps(value)), text=False))
                case Fixed(value) if not any(mark in value for mark in self._closing()):
                    found.append(self._tag(key, STRING, lark(value, {}), text=True))
        if not found:
            raise UnsayableError
        return found

    def _opened(self, key: str, kind: str, *, text: bool) -> str:
        return lark(opening(self._writing, key, kind, text=text), self._special)

    def _tag(self, key: str, kind: str, value: str, *, text: bool) -> str:
        return f"{self._opened(key, kind, text=text)} {value} {lark(self._writing.value_end, self._special)}"

    def _tagged_text(self, key: str, text: Grammar) -> str:
        if text.kind == "regex":
            return f"{self._opened(key, STRING, text=True)} {self._raw((f'(?:{text.text})',))}"
        return self._tag(key, STRING, self._text_value(text), text=True)

    def _closing(self) -> list[str]:
        """Marks that may not stand in a value: it could end there."""
        body = self._format.body
        assert isinstance(body, Tags)
        marks = (body.argument_end, body.argument_start, body.call_end, self._format.end, CDATA if body.cdata else "")
        return [mark for mark in dict.fromkeys(marks) if mark]

    def _raw(self, conditions: tuple[str, ...], never: str = "") -> str:
        """A string up to its closing tag, and that."""
        text = " & ".join([without(self._closing()), *map(regex, conditions), *([f"~{regex(never)}"] if never else [])])
        return self._until(text, self._writing.value_end)

    def _until(self, text: str, end: str) -> str:
        """A text, and the first of its ends."""
        lead, rest = before_special(end, self._special)
        if rest:
            text = self._rule(self._name("T"), f"({text}) {literal(lead)}") if lead else self._terminal(text)
            return f"{text} {lark(rest, self._special)}"
        plain, hole, rest = end.partition("{nl}")
        name = self._rule(f"{self._name('value')}[lazy]", f"{self._terminal(text)} {literal(plain)}")
        return f"{name} {lark(hole + rest, self._special)}" if hole else name

    def _terminal(self, text: str) -> str:
        return self._rule(self._name("T"), text)

    def _braced(self, schema: Schema) -> list[str]:
        try:
            choices: list[Choice] = choices_of(schema, self._schema.get("$defs", {}))
        except UnsayableError:
            choices = [Json(schema)]
        return [self._braced_choice(choice) for choice in choices]

    def _braced_choice(self, choice: Choice) -> str:
        match choice:
            case Raw(conditions):
                text = " & ".join([without((self._writing.quote, self._format.end)), *map(regex, conditions)])
                return f"{lark(self._writing.quote, self._special)} {self._until(text, self._writing.quote)}"
            case Json(schema):
                return self._json(schema)
            case Fixed(value):
                plain = isinstance(value, str) and not any(
                    mark in value for mark in (self._writing.quote, self._format.end)
                )
                return self._quoted(lark(value, {})) if plain else self._json({"const": value})

    def _braced_text(self, text: Grammar) -> str:
        if text.kind == "regex":
            return self._braced_choice(Raw((f"(?:{text.text})",)))
        return self._quoted(self._text_value(text))

    def _quoted(self, value: str) -> str:
        quote = lark(self._writing.quote, self._special)
        return f"{quote} {value} {quote}"

    def _text_value(self, text: Grammar) -> str:
        """A grammar of its own."""
        name = self._name("text")
        self.content[name] = text
        return f"@{name}"

    def _python(self, schema: Schema) -> list[str]:
        """Values as Python has them; inside lists and objects they are JSON's."""
        if set(schema) == {"anyOf"}:
            return [value for each in schema["anyOf"] for value in self._python(each)]
        if set(schema) <= {"enum", "type"} and "enum" in schema:
            types = types_of(schema)
            values = [value for value in schema["enum"] if types is None or kind_of(value) & set(types)]
            return [self._json({"enum": [value]}) if type(value) in (dict, list) else python(value) for value in values]
        kinds = [kind for kind in types_of(schema) or () if kind not in ("boolean", NULL)]
        if set(schema) != {"type"}:
            return [self._json(schema)]
        words = {"boolean": ['"True"', '"False"'], NULL: ['"None"']}
        found = [word for kind in types_of(schema) or () for word in words.get(kind, ())]
        return found + ([self._json({"type": kinds})] if kinds else [])


def python(value: Any) -> str:
    """A plain value in Python, in Lark."""
    text = json.dumps(value, ensure_ascii=False)
    return literal(PYTHON_WORDS.get(text, text))


def kind_name(value: Any) -> str:
    """The JSON type of a value."""
    return max(kind_of(value))


def text_schema(schema: Schema, text: Grammar) -> Schema:
    """The arguments of a function whose one argument is a text that an expression matches."""
    if text.kind != "regex":
        return schema
    properties = {key: {"type": STRING, "pattern": f"^(?:{text.text})$"} for key in schema.get("properties", {})}
    return {**schema, "properties": properties}
