"""What an answer must be, as OpenAI (`response_format`), vLLM (`structured_outputs`, `guided_*`) and others say it."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import msgspec

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Grammar
from mlx_server.schemas.parsing.bounds import check_json
from mlx_server.schemas.parsing.json_schema_refs import check_references

MAX_GRAMMAR_CHARS = 1 << 18
MAX_OPTIONS = 10_000
ANY_OBJECT = '{"type":"object"}'

Schema = dict[str, Any]


class JsonSchema(msgspec.Struct, frozen=True, kw_only=True):
    """A schema with a name; it is always enforced, `strict` or not."""

    name: str | None = None
    description: str | None = None
    schema: Schema | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True, kw_only=True):
    """`json_object` may carry a schema of its own."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema: Schema | None = None


class StructuredOutputs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of these, as vLLM has them."""

    json: str | Schema | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None


class StructuredFields(Protocol):
    """The fields of a request that constrain its answer."""

    @property
    def response_format(self) -> ResponseFormat | None: ...
    @property
    def structured_outputs(self) -> StructuredOutputs | None: ...
    @property
    def regex(self) -> str | None: ...
    @property
    def grammar(self) -> str | None: ...
    @property
    def choice(self) -> list[str] | None: ...
    @property
    def guided_json(self) -> str | Schema | None: ...
    @property
    def guided_regex(self) -> str | None: ...
    @property
    def guided_grammar(self) -> str | None: ...
    @property
    def guided_choice(self) -> list[str] | None: ...


def only_grammar(given: StructuredFields, other: Grammar | None = None) -> Grammar | None:
    """The one constraint of a request, or None; `other` stands in a field of an API's own. Raises InvalidRequest for
    two, and for one that can't be."""
    found = [
        other,
        from_response_format(given.response_format),
        *from_structured_outputs(given.structured_outputs),
        from_regex(given.regex, "regex"),
        from_grammar(given.grammar, "grammar"),
        from_choice(given.choice, "choice"),
        from_json(given.guided_json, "guided_json"),
        from_regex(given.guided_regex, "guided_regex"),
        from_grammar(given.guided_grammar, "guided_grammar"),
        from_choice(given.guided_choice, "guided_choice"),
    ]
    grammars = [grammar for grammar in found if grammar is not None]
    if len(grammars) > 1:
        names = " and ".join(f"`{grammar.param}`" for grammar in grammars)
        raise InvalidRequest(f"{names} can't both constrain one answer: leave all but one out.", grammars[1].param)
    return check_size(grammars[0]) if grammars else None


def check_size(grammar: Grammar) -> Grammar:
    """The same. Raises InvalidRequest for one that would take too long to compile."""
    if len(grammar.text) > MAX_GRAMMAR_CHARS:
        raise InvalidRequest(f"`{grammar.param}`: more than {MAX_GRAMMAR_CHARS} characters.", grammar.param)
    return grammar


def from_response_format(given: ResponseFormat | None) -> Grammar | None:
    """OpenAI's field. Raises InvalidRequest where the schema is missing or stands in the wrong place."""
    if given is None:
        return None
    if given.json_schema is not None and given.type != "json_schema":
        misplaced = "response_format.json_schema"
        raise InvalidRequest(f"`{misplaced}` needs the type 'json_schema'.", misplaced)
    if given.schema is not None and given.type != "json_object":
        raise InvalidRequest("`response_format.schema` needs the type 'json_object'.", "response_format.schema")
    match given.type:
        case "text":
            return None
        case "json_object":
            if given.schema is None:
                return Grammar("json_schema", ANY_OBJECT, "response_format")
            return from_json(given.schema, "response_format.schema", guaranteed=False)
        case "json_schema":
            param = "response_format.json_schema"
            if given.json_schema is None:
                raise InvalidRequest(f"`{param}` is missing.", param)
            if given.json_schema.schema is None:
                raise InvalidRequest(f"`{param}.schema` is missing.", f"{param}.schema")
            return from_json(given.json_schema.schema, f"{param}.schema")


def from_structured_outputs(given: StructuredOutputs | None) -> list[Grammar | None]:
    """vLLM's field. Raises InvalidRequest if it asks for nothing."""
    if given is None:
        return []
    found = [
        from_json(given.json, "structured_outputs.json"),
        from_regex(given.regex, "structured_outputs.regex"),
        from_choice(given.choice, "structured_outputs.choice"),
        from_grammar(given.grammar, "structured_outputs.grammar"),
        Grammar("json_schema", ANY_OBJECT, "structured_outputs.json_object") if given.json_object else None,
    ]
    if not any(found):
        raise InvalidRequest(
            "`structured_outputs` needs one of json, regex, choice, grammar or json_object.", "structured_outputs"
        )
    return found


def from_json(given: str | Schema | None, param: str, *, guaranteed: bool = True) -> Grammar | None:
    """A schema, or its JSON text. Raises InvalidRequest if the text is no JSON object."""
    if given is None:
        return None
    if isinstance(given, str):
        try:
            given = msgspec.json.decode(given, type=Schema)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"`{param}`: not a JSON schema: {error}", param) from None
        except RecursionError:
            raise InvalidRequest(f"`{param}` is nested too deeply.", param) from None
        check_json(given, param)
    text = msgspec.json.encode(given).decode()
    if len(text) <= MAX_GRAMMAR_CHARS:  # a longer one is refused by all spellings at once
        check_references(given, param)
    return Grammar("json_schema", text, param, guaranteed)


def from_regex(given: str | None, param: str) -> Grammar | None:
    """A regular expression that the whole answer matches."""
    return None if given is None else Grammar("regex", given, param)


def from_grammar(given: str | None, param: str) -> Grammar | None:
    """A grammar in Lark's notation, or in GBNF (llama.cpp), which defines `root` with `::=`."""
    if given is None:
        return None
    return Grammar("gbnf" if "::=" in given else "lark", given, param)


def from_choice(given: list[str] | None, param: str) -> Grammar | None:
    """One of these texts. Raises InvalidRequest for none, too many, or an empty one."""
    if given is None:
        return None
    if not 0 < len(given) <= MAX_OPTIONS or not all(given):
        raise InvalidRequest(f"`{param}`: 1 to {MAX_OPTIONS} texts are allowed, none of them empty.", param)
    return Grammar("choice", msgspec.json.encode(given).decode(), param)
