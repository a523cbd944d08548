"""The table of bad input: what only a worker can refuse, with its tokenizer, its grammars or its templates."""

from __future__ import annotations

from support.inputs.bad_input import SCHEMA, chat, schema, text, tool, user

VOCABULARY = 49152
"""SmolLM2's."""

NOT_FOR_SMOLLM2 = [
    chat("min_tokens", "can't be kept together", tools=[tool()], tool_choice="required", min_tokens=9),
    chat("ignore_eos", "can't be kept together", tools=[tool(strict=True)], ignore_eos=True),
    text("prompt", f"token id {VOCABULARY} is not in the vocabulary", prompt=[VOCABULARY]),
    text("prompt", "is not in the vocabulary", prompt=[[5], [5, 2**31 - 1]]),
    text("logit_bias", "is not in the vocabulary", logit_bias={str(VOCABULARY): 5}),
    chat("logit_bias", "is not in the vocabulary", logit_bias={"999999999": 5}),
    chat("stop_token_ids", "is not in the vocabulary", stop_token_ids=[VOCABULARY]),
    text("prompt", "maximum context length is", prompt=[7] * 9000),
    chat("messages", "maximum context length is", messages=[user("one two " * 9000)]),
    chat("regex", "`regex`", regex="("),
    chat("regex", "`regex`", regex="[z-a]"),
    chat("regex", "`regex`", regex="a{5,2}"),
    chat("regex", "`regex`", regex=r"(a)\1"),
    chat("guided_regex", "`guided_regex`", guided_regex="(?<=a)b"),
    text("grammar", "`grammar`", grammar="start: nothing"),
    text("grammar", "`grammar`", grammar="}{"),
    text("grammar", "`grammar`", grammar=""),
    text("grammar", "`grammar`", grammar="root ::= missing"),
    text("structured_outputs.grammar", "`structured_outputs.grammar`", structured_outputs={"grammar": "root ::= ("}),
    chat(f"{SCHEMA}.type", f"`{SCHEMA}.type`", response_format=schema({"type": "nonsense"})),
    chat(f"{SCHEMA}.type", f"`{SCHEMA}.type`", response_format=schema({"type": 5})),
    chat(f"{SCHEMA}.$ref", f"`{SCHEMA}.$ref`", response_format=schema({"$ref": "http://example.com/schema.json"})),
    chat(f"{SCHEMA}.$ref", f"`{SCHEMA}.$ref`", response_format=schema({"$ref": "file:///etc/passwd"})),
    chat(f"{SCHEMA}.$ref", f"`{SCHEMA}.$ref`", response_format=schema({"$ref": "#/$defs/missing"})),
    chat(SCHEMA, f"`{SCHEMA}`", response_format=schema({"type": "string", "pattern": "("})),
    chat(SCHEMA, f"`{SCHEMA}`", response_format=schema({"type": "string", "minLength": 5, "maxLength": 2})),
    chat(SCHEMA, f"`{SCHEMA}`", response_format=schema({"type": "array", "minItems": 5, "maxItems": 2})),
    chat(SCHEMA, f"`{SCHEMA}`", response_format=schema({"type": "integer", "minimum": 5, "maximum": 2})),
    chat(f"{SCHEMA}.properties", f"`{SCHEMA}.properties`", response_format=schema({"properties": []})),
    chat(SCHEMA, f"`{SCHEMA}`", response_format=schema({"enum": []})),
    text("guided_json.type", "`guided_json.type`", guided_json='{"type": "nonsense"}'),
]
"""What needs a tokenizer, or the library of grammars, to be refused: SmolLM2's worker does it."""

LOOP = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
DOUBLING = "{% set ns = namespace(a='a') %}" + "{% set ns.a = ns.a + ns.a %}" * 60

BAD_TEMPLATES = [
    chat("chat_template", "`chat_template` ", chat_template="{{"),
    chat("chat_template", "`chat_template` ", chat_template="{% for m in messages %}"),
    chat("chat_template", "`chat_template` ", chat_template="{% include 'x' %}"),
    chat("chat_template", "`chat_template` ", chat_template="{{ nothing.at.all }}"),
    chat("chat_template", "`chat_template` ", chat_template="{{ messages[99].content }}"),
    chat("chat_template", "`chat_template` ", chat_template="{{ messages | nosuchfilter }}"),
    chat("chat_template", "`chat_template` ", chat_template="{{ 1 / 0 }}"),
    chat("messages", "`chat_template` refuses these messages: no", chat_template="{{ raise_exception('no') }}"),
    chat("chat_template", "`chat_template` ", chat_template="{{ ''.__class__.__mro__[1].__subclasses__() }}"),
    chat("chat_template", "`chat_template` ", chat_template="{{ messages.append(1) }}"),
    chat("chat_template", "`chat_template` ", chat_template="{{ 'a' * 10000000000 }}"),
    chat("chat_template", "`chat_template` ", chat_template="{{ 9 ** (9 ** 9) }}"),
    chat("chat_template", "`chat_template` ", chat_template=LOOP),
    chat("chat_template", "`chat_template` ", chat_template="{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
    chat(
        "chat_template",
        "`chat_template` ",
        chat_template="{% set ns = namespace(a='a') %}" + "{% set ns.a = ns.a + ns.a %}" * 60,
    ),
]
"""A client's own templates that are no templates, look where they must not, or have no end."""
