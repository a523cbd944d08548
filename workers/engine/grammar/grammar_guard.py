"""Tries grammars in a process that can be killed, before the worker itself takes them."""

from __future__ import annotations

from typing import Any

from llguidance import LLParserLimits

from mlx_server.workers.engine.sandbox.host import KillableProcess, Stopped

CHILD = "mlx_server.workers.engine.grammar.grammar_child"

LIMIT_S = 10.0
CPU_S = 3
MEMORY_BYTES = 2 << 30

MAX_MASK_S = 0.25
"""Processor time of a grammar's first mask: everybody's next token waits for it."""

STACK_BYTES = 16 << 20
"""Stack of the thread that tries grammars; the worker's are larger."""


STEP_FUEL = 3_000_000
"""Work of the lexer for one mask, 15 times llguidance's default: patterns of passwords need a million, which takes 10
ms. All of it takes less than `MAX_MASK_S`."""


def matcher_limits() -> LLParserLimits:
    """llguidance's own limits but for `STEP_FUEL`; its errors don't repeat the answer so far."""
    return LLParserLimits(verbose_errors=False, step_lexer_fuel=STEP_FUEL)


class GrammarGuard:
    """Tokenizer's thread only; `close` from any."""

    def __init__(self, tokenizer_json: str, n_vocab: int, eos: list[int]) -> None:
        greeting: dict[str, Any] = {"tokenizer": tokenizer_json, "n_vocab": n_vocab, "eos": eos}
        self._process = KillableProcess(
            CHILD, limit_s=LIMIT_S, cpu_s=CPU_S, memory_bytes=MEMORY_BYTES, greeting=greeting
        )

    def objection(self, grammar: str) -> str | None:
        """Why a grammar in llguidance's notation can't be used; None if it can."""
        try:
            return self._process.ask({"grammar": grammar}, self._process.deadline())["reason"]  # type: ignore[no-any-return]
        except Stopped as error:
            return f"it is too complex: it {error}"

    def close(self) -> None:
        """End the process. Idempotent."""
        self._process.close()
