"""What each token stands for in bytes, and grammars over them: llguidance's view of a tokenizer."""

from __future__ import annotations

import copy
import json
from typing import Any

import llguidance
import llguidance.hf
from llguidance import LLMatcher, LLTokenizer

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import Grammar
from mlx_server.schemas.messages import TokenLogprob
from mlx_server.workers.engine.grammar_guard import GrammarGuard, matcher_limits

KEPT_GRAMMARS = 16

JSON_STYLE = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
"""As `json.dumps` writes. With free whitespace small models print spaces for ever."""


class Vocabulary:
    """Built once for a model, from mlx-lm's tokenizer; `vocab_size` is the width of the model's logits."""

    def __init__(self, tokenizer: Any, vocab_size: int) -> None:
        self._special = frozenset(tokenizer.all_special_ids)
        self._names = tokenizer.convert_ids_to_tokens
        self._size = len(tokenizer)
        n_vocab, eos = max(vocab_size, len(tokenizer)), sorted(tokenizer.eos_token_ids)
        self.tokens: LLTokenizer = llguidance.hf.from_tokenizer(tokenizer._tokenizer, n_vocab=n_vocab, eos_token=eos)
        self._guard = GrammarGuard(tokenizer_json(tokenizer._tokenizer), n_vocab, eos)
        self._compiled: dict[str, LLMatcher] = {}

    def close(self) -> None:
        """End what was started for clients' grammars. Idempotent; from any thread."""
        self._guard.close()

    def describe(self, token: int, logprob: float | None) -> TokenLogprob:
        """A token with its own bytes; special ones have their name."""
        if token in self._special:
            name = str(self._names(token))
            return TokenLogprob(name, name.encode(), logprob, token)
        raw = self.tokens.decode_bytes([token]) if token < self._size else b""
        return TokenLogprob(raw.decode(errors="replace"), raw, logprob, token)

    def compile(self, grammar: Grammar) -> LLMatcher:
        """A matcher at its beginning; `deep_copy` it for use. Raises InvalidRequest with llguidance's reason."""
        return self.matcher(source_of(grammar), grammar.param)

    def matcher(self, source: str, param: str) -> LLMatcher:
        """The same for a grammar in llguidance's own notation. The last few are kept."""
        matcher = self._compiled.pop(source, None) or self._try(source, param)
        self._compiled[source] = matcher
        if len(self._compiled) > KEPT_GRAMMARS:
            del self._compiled[next(iter(self._compiled))]
        return matcher

    def objection(self, source: str) -> str | None:
        """Why a grammar can't be used; None if it can. It is tried in a process of its own."""
        return self._guard.objection(source)

    def _try(self, source: str, param: str) -> LLMatcher:
        if (reason := self.objection(source)) is not None:
            raise unusable(param, reason)
        matcher = LLMatcher(self.tokens, source, log_level=0, limits=matcher_limits())
        if matcher.is_error():
            raise unusable(param, matcher.get_error())
        return matcher


def tokenizer_json(tokenizer: Any) -> str:
    """A fast tokenizer as its library writes it, without padding and truncation."""
    backend = copy.copy(tokenizer.backend_tokenizer)
    backend.no_padding()
    backend.no_truncation()
    return str(backend.to_str())


def source_of(grammar: Grammar) -> str:
    """A grammar in llguidance's own notation. Raises InvalidRequest with the reason."""
    try:
        return translated(grammar)
    except Exception as error:  # noqa: BLE001 - llguidance's translator of GBNF raises plain exceptions
        raise unusable(grammar.param, str(error)) from None


def translated(grammar: Grammar) -> str:
    """What llguidance's translators make of a grammar. Raises what they raise."""
    match grammar.kind:
        case "json_schema":
            return LLMatcher.grammar_from_json_schema(grammar.text, defaults=JSON_STYLE)  # type: ignore[arg-type]
        case "regex":
            return LLMatcher.grammar_from_regex(grammar.text)
        case "gbnf":
            return llguidance.grammar_from("gbnf", grammar.text)
        case "lark":
            return LLMatcher.grammar_from_lark(grammar.text)
        case "choice":
            options = " | ".join(json.dumps(option, ensure_ascii=False) for option in json.loads(grammar.text))
            return LLMatcher.grammar_from_lark(f"start: {options}")


def unusable(param: str, reason: str) -> InvalidRequest:
    """The refusal of a grammar."""
    return InvalidRequest(f"`{param}` can't be enforced: {' '.join(reason.split())}", param, "invalid_grammar")
