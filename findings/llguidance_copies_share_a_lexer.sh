#!/usr/bin/env bash
# llguidance 1.9.1: a `deep_copy` of an LLMatcher breaks as soon as another copy has used up the lexer's states.
#
# Guess before it was run: what `deep_copy` gives is a matcher of its own, so that one that was compiled once can be kept
# and copied for each answer; where an answer passes a limit of LLParserLimits, that answer's copy alone is in error.
# Seen: with `max_lexer_states` of 5,000 each of ten new matchers takes its 400 characters of a pattern that needs many
# states. Of ten copies of one matcher the first does; the second is in error on the way, all after it are at their
# first mask, and so is a copy that has taken three characters before. The states of all copies are counted together and
# for good, and the error is everybody's.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "llguidance==1.9.1"
"$folder/venv/bin/python" - <<'PYTHON'
import random
import sys

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

CHARACTERS = 400
TOKENS = LLTokenizer("byte")
GRAMMAR = LLMatcher.grammar_from_regex(r"(?s:.*e.{40}x)")


def new() -> LLMatcher:
    return LLMatcher(TOKENS, GRAMMAR, log_level=0, limits=LLParserLimits(max_lexer_states=5_000))


def taken(matcher: LLMatcher, answer: int) -> int:
    """How many characters of an answer it takes before it is in error."""
    lot = random.Random(answer)
    for number in range(CHARACTERS):
        matcher.compute_bitmask()
        if matcher.is_error():
            return number
        matcher.consume_token(ord(lot.choice("abcdef")))
    return CHARACTERS


alone = [taken(new(), answer) for answer in range(10)]
kept = new()
neighbour = kept.deep_copy()
for character in b"abc":
    neighbour.consume_token(character)
copies = [taken(kept.deep_copy(), answer) for answer in range(10)]
neighbour.compute_bitmask()
print("new matchers take", alone)
print("copies take", copies, "and a neighbour says", neighbour.get_error().split("\n")[0])
expected = alone == [CHARACTERS] * 10 and copies[0] == CHARACTERS > copies[1] and copies[2:] == [0] * 8
sys.exit(not (expected and neighbour.is_error()))
PYTHON
