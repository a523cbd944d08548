#!/usr/bin/env bash
# llguidance 1.9.1: some of llama.cpp's grammars compile and then can neither go on nor end.
#
# Guess before it was run: `llguidance.grammar_from("gbnf", …)` gives a grammar that takes the texts that llama.cpp's own
# matcher takes: rules may end wherever what follows them begins.
# Seen: of the arithmetic grammar that comes with llama.cpp, cut down here, the text "1+2=3" and a line break can't
# end, since the white space of `ws` takes the line break that `root` asks for; "Johnson" is no name followed by "son". A
# rule without references to others becomes a terminal, and the lexer takes as much for one as it can. The same rules
# in lower case in Lark's notation take both texts and may end.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "llguidance==1.9.1"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import llguidance
from llguidance import LLMatcher, LLTokenizer

TOKENS = LLTokenizer("byte")
SUM = """root ::= (expr "=" ws term "\\n")+
expr ::= term ([-+*/] term)*
term ::= num | "(" ws expr ")" ws
num ::= [0-9]+ ws
ws ::= [ \\t\\n]*
"""
NAME = """root ::= name "son"
name ::= [A-Z] [a-z]+
"""
SUM_IN_LARK = """%llguidance {}
start: (expr "=" ws term "\\n")+
expr: term (/[-+*\\/]/ term)*
term: num | "(" ws expr ")" ws
num: /[0-9]/+ ws
ws: /[ \\t\\n]/*
"""
NAME_IN_LARK = """%llguidance {}
start: name "son"
name: /[A-Z]/ /[a-z]/+
"""


def may_end(grammar: str, text: str) -> bool:
    """Whether a text is taken, and may end there."""
    matcher = LLMatcher(TOKENS, grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    taken = all(matcher.consume_token(one) for one in text.encode())
    return taken and matcher.is_accepting()


asked = (("1+2=3\n", SUM, SUM_IN_LARK), ("Johnson", NAME, NAME_IN_LARK))
found = [
    (may_end(llguidance.grammar_from("gbnf", gbnf), text), may_end(LLMatcher.grammar_from_lark(lark), text))
    for text, gbnf, lark in asked
]
for (text, *_), (gbnf, lark) in zip(asked, found):
    print(f"{text!r}: may end by the GBNF: {gbnf}, by the same rules in Lark: {lark}")
sys.exit(found != [(False, True)] * 2)
PYTHON
