"""A process of its own: tries clients' grammars, for a worker that must not die of them.

llguidance recurses as deeply as a grammar does, and some grammars take seconds for a single mask.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from llguidance import LLMatcher, LLTokenizer

from mlx_server.workers.engine.grammar.grammar_guard import MAX_MASK_S, STACK_BYTES, matcher_limits
from mlx_server.workers.engine.sandbox.child import Answer, serve

MAX_REASON = 600
STEPS = 16
"""Tokens that a grammar is followed for: what it allows at once says little of what comes behind a bracket."""


def make_ready(greeting: dict[str, Any]) -> Answer:
    """Read the tokenizer, which takes about a second."""
    tokens = LLTokenizer(greeting["tokenizer"], n_vocab=greeting["n_vocab"], eos_token=greeting["eos"])
    return lambda request: {"reason": trial(tokens, request["grammar"])}


def trial(tokens: LLTokenizer, grammar: str) -> str | None:
    """Why a grammar can't be used; None if it can, as far as its first steps tell."""
    matcher = LLMatcher(tokens, grammar, log_level=0, limits=matcher_limits())
    if not matcher.is_error() and matcher.is_stopped() and not matcher.is_accepting():
        return "nothing satisfies it"
    for _ in range(STEPS):
        if matcher.is_stopped():
            break
        began = time.process_time()
        token = lowest(matcher.compute_bitmask())
        if not matcher.is_error() and time.process_time() - began > MAX_MASK_S:
            return f"it is too complex: one step of it takes more than {MAX_MASK_S:g} seconds"
        if token is None:
            return reason_of(matcher) or "nothing satisfies it"
        matcher.consume_token(token)
    return reason_of(matcher)


def reason_of(matcher: LLMatcher) -> str | None:
    """What llguidance says of an error, without what it prints for its makers; None if there is none."""
    first, _, more = matcher.get_error().partition("\n")
    if first == "regex parse error:":  # a drawing of the pattern, and then the reason
        first = f"{first} {more.rpartition('error: ')[2].partition(chr(10))[0]}"
    return first[:MAX_REASON] or None


def lowest(mask: bytes) -> int | None:
    """The first token that a mask allows."""
    at = next((i for i, byte in enumerate(mask) if byte), None)
    return None if at is None else at * 8 + ((mask[at] & -mask[at]).bit_length() - 1)


def main() -> None:
    """Serve on a thread with a smaller stack than the worker's: what is at home here is safe there."""
    threading.stack_size(STACK_BYTES)
    serving = threading.Thread(target=serve, args=(make_ready, *map(int, sys.argv[1:])))
    serving.start()
    serving.join()


if __name__ == "__main__":
    main()
