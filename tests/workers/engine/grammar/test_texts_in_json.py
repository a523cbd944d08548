"""Lark grammars for texts inside JSON's strings: they allow a text there if the grammar allows it alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from llguidance import LLMatcher
from mlx_lm.utils import load_tokenizer

from mlx_server.workers.engine.grammar.texts_in_json import in_json
from mlx_server.workers.engine.grammar.vocabulary import Vocabulary

PATCH = """\
start: begin_patch hunk+ end_patch
begin_patch: "*** Begin Patch" LF
end_patch: "*** End Patch" LF?
hunk: add_hunk | delete_hunk | update_hunk
add_hunk: "*** Add File: " filename LF add_line+
delete_hunk: "*** Delete File: " filename LF
update_hunk: "*** Update File: " filename LF change_move? change?
filename: /(.+)/
add_line: "+" /(.*)/ LF -> line
change_move: "*** Move to: " filename LF
change: (change_context | change_line)+ eof_line?
change_context: ("@@" | "@@ " /(.+)/) LF
change_line: ("+" | "-" | " ") /(.*)/ LF
eof_line: "*** End of File" LF
%import common.LF
"""
"""What Codex asks of its `apply_patch`."""

TOLD = [
    (
        PATCH,
        [
            '*** Begin Patch\n*** Add File: a "b".txt\n+hello \\ world\t\n+\n+x\n*** End Patch',
            '*** Begin Patch\n*** Update File: ä\n@@ def "x"\n-a\n+b\\n\n c\n*** End Patch\n',
            "*** Begin Patch\n*** Delete File: a\n*** Delete File: b\n*** End Patch",
        ],
        ["*** Begin Patch\nfoo", "hello", "*** Begin Patch\n*** Add File: a\nx\n*** End Patch"],
    ),
    ('start: "a" /[0-9]+/', ["a1", "a123"], ["a", "b1", "a1b"]),
    ("start: /.+/", ["x", 'a "b" \\ \t\x01ä'], ["", "a\nb"]),
    ("start: /.*/s", ["", "a\nb"], []),
    ('start: LINE+\nLINE: /[^\\n]*/ "\\n"', ["\n", "a\n\nb\n"], ["a", "a\nb"]),
    ("start: LINE+\nLINE: /[^\\n]*/ LF\n%import common.LF", ["a\n\nb\n"], ["a"]),
    ('start: WORD "\\n" T_WORD\nWORD: /[^\\n ]*/ "\\n"\nT_WORD: "x"', ["a\n\nx"], ["a b\n\nx", "a\nx"]),
    ('start: /"[^"]*"/', ['""', '"a\n\\"'], ['"a', '"a"b"']),
    ('start: "\\"" /[^"]*/ "\\""', ['""', '"a\\"'], ['"a', '"a"b']),
    ('start: "é\\"" /\\S{1,3}/', ['é""\\a'], ['é"', 'é"a b', 'é"abcd']),
    ('start: /x[a-c"]+/i', ['XaB"'], ["xd"]),
    ('start: "AB"i ("," /\\d/)*', ["aB,1,2"], ["ab,"]),
    ('start: A | B\nA: /(foo|ba?r){1,2}\\n/\nB: "x" | "y\\n"', ["foobr\n", "x", "y\n"], ["foo", "y", "\n"]),
    ("start: /(?:ab)+ .*/", ['abab "'], ["ab", ' "']),
    ("start: /SELECT [^;]+;/", ['SELECT "a"\nfrom b;'], ["SELECT ;", "SELECT a"]),
    ('start: x ("," x)*\nx: /[a-z]+/ | "\\n"', ["a,\n,bc"], ["a,", "A"]),
    ('start: ("a" NEWLINE)+ /\\n*/\n%import common (NEWLINE, INT)', ["a\n\na\r\n\n"], ["a", "aa\n"]),
    ('start: "a" NL "b"\n%import common.WS_INLINE -> NL', ["a \t b"], ["ab", "a\nb"]),
    ('start: "a".."c" /[\\n]/', ["b\n"], ["d\n", "b"]),
    ('%ignore / /\nstart: "a" "b"', ["ab", "a  b"], ["a", "b"]),
    ('start: (INT | "x"~2)+ // a comment\n%import common.INT', ["12xx"], ["x"]),
]


@pytest.fixture(scope="module")
def vocabulary(smollm2: Path) -> Iterator[Vocabulary]:
    """Of tokens that hold several characters, escapes too."""
    tokenizer = load_tokenizer(smollm2)
    vocabulary = Vocabulary(tokenizer, tokenizer.vocab_size)
    yield vocabulary
    vocabulary.close()


def takes(vocabulary: Vocabulary, matcher: LLMatcher, text: str) -> bool:
    """Whether a whole text is allowed, and may end there."""
    matcher = matcher.deep_copy()
    for token in vocabulary.tokens.tokenize_str(text):
        packed = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        if not packed[token // 8] >> token % 8 & 1 or not matcher.consume_token(token):
            return False
    return matcher.is_accepting()


@pytest.mark.parametrize(("definition", "good", "bad"), TOLD, ids=lambda each: str(each)[:30])
def test_texts_are_allowed_in_json_as_they_are_alone(
    vocabulary: Vocabulary, definition: str, good: list[str], bad: list[str]
) -> None:
    written = in_json(definition)
    assert written is not None
    top = {"name": "top", "lark_grammar": 'start: "{\\"input\\": \\"" @text "\\"}"'}
    inside = vocabulary.matcher(json.dumps({"grammars": [top, {"name": "text", "lark_grammar": written}]}), "f")
    alone = vocabulary.matcher(LLMatcher.grammar_from_lark(definition), "f")
    for texts, allowed in ((good, True), (bad, False)):
        for text in texts:
            assert takes(vocabulary, alone, text) == allowed, text
            assert takes(vocabulary, inside, json.dumps({"input": text}, ensure_ascii=False)) == allowed, text


@pytest.mark.parametrize(
    "definition",
    [
        'start: ~"a"',
        'start: A & B\nA: "a"\nB: "\\n"',
        'start: %json {"type": "string"}',
        'start: " ".."~"',
        'start: A\nA: /.*/ "x"',
        'start: A\nA: /.*/ "x\\n"',
        "start: /a.*b/",
        'start: /(a|"b)+/',
        "start: /[a-z]*.*/",
        'start: "\\n"i',
        "start: /\\p{L}+/",
        "start: /[[:alpha:]]+/",
        '%import common.WS\n%ignore WS\nstart: "a"',
        "%import common.ESCAPED_STRING\nstart: ESCAPED_STRING",
        "start: <|im_end|>",
        "start: /a/x",
    ],
)
def test_what_can_not_be_said_of_escaped_text_is_none(definition: str) -> None:
    assert in_json(definition) is None


def test_long_chains_of_terminals_take_no_longer_than_others() -> None:
    chain = "".join(f'T{i}: T{i - 1} "a"\n' for i in range(1, 1500))
    began = time.process_time()
    written = in_json(f'start: T1499\nT0: "\\n" "a"\n{chain}')
    assert time.process_time() - began < 0.5
    assert written is not None
    assert "t_t1499: t_t1498" in written
