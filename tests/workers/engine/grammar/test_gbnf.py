"""Grammars in llama.cpp's notation: what they allow there, they allow here."""

from __future__ import annotations

import pytest
from llguidance import LLMatcher
from support.inputs.walks import TOKENIZER, bits

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Grammar
from mlx_server.workers.engine.grammar.vocabulary import source_of

ARITHMETIC = r"""root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
"""
JSON = r"""root   ::= object
value  ::= object | array | string | ("true" | "false" | "null") ws
object ::= "{" ws (
    string ":" ws value ("," ws string ":" ws value)*
  )? "}" ws
array  ::= "[" ws (value ("," ws value)*)? "]" ws
string ::= "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws
ws ::= | " " | "\n" [ \t]{0,20}
"""
"""Of llama.cpp's examples, one of them shortened."""

CASES = [
    (ARITHMETIC, ["1+2=3\n", "x1*(2+y) = 7\n\n", "1=3\n2=4\n"], ["a=\n", "1=3"]),
    (JSON, ['{"a": [true, null, "x\\n\\u00e4"]}', "{}"], ["[1]", '{"a":}']),
    ('root ::= first-name "son"\nfirst-name ::= [A-Z] [a-z]+', ["Johnson", "Jackson", "Sasson"], ["son"]),
    ('root ::= start Word+ "end"\nstart ::= "a "?\nWord ::= [a-z]+ " "', ["foo end", "a en e end"], ["foo en"]),
    ('start: "a" | "b"', ["a"], ["c"]),
]


def takes(source: str, text: str) -> bool:
    """Whether a whole text is allowed, and may end there."""
    matcher = LLMatcher(TOKENIZER, source, log_level=0)
    for byte in text.encode():
        if not bits(matcher)[byte] or not matcher.consume_token(byte):
            return False
    return bool(matcher.is_accepting())


@pytest.mark.parametrize(("text", "good", "bad"), CASES, ids=lambda each: str(each)[:20])
def test_a_grammar_allows_what_llama_cpp_does(text: str, good: list[str], bad: list[str]) -> None:
    source = source_of(Grammar("gbnf", text, "p"))
    assert [each for each in good if not takes(source, each)] == []
    assert [each for each in bad if takes(source, each)] == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [('a ::= "x"', "no rule 'root'"), ("root ::= a", "no rule 'a'"), ("root ::= (", "Expected"), ("root", "::=")],
)
def test_what_is_no_grammar_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        source_of(Grammar("gbnf", text, "p"))
    assert reason in refusal.value.message
