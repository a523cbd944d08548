"""What each token stands for in bytes, and grammars over them: llguidance's view of a tokenizer."""

from __future__ import annotations

import copy
import json
from functools import cached_property, partial
from typing import Any

import llguidance
import llguidance.hf
from llguidance import LLMatcher, LLTokenizer

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Grammar
from mlx_server.schemas.internal.messages import TokenLogprob
from mlx_server.workers.engine.grammar.distinct import DistinctMatcher, Matcher, Words
from mlx_server.workers.engine.grammar.gbnf import in_lark
from mlx_server.workers.engine.grammar.grammar_guard import GrammarGuard, matcher_limits
from mlx_server.workers.engine.grammar.json_schema import Enforceable, enforceable
from mlx_server.workers.engine.grammar.json_watch import JsonWatch
from mlx_server.workers.engine.grammar.schema_search import COMPLEX, settled, source_of_schema
from mlx_server.workers.engine.recent import Recent

KEPT_SCHEMAS = 256
KEPT_OBJECTIONS = 256


class Vocabulary:
    """Made once for a model, from mlx-lm's tokenizer; `vocab_size` is the width of the model's logits. `prepare` it
    before `describe` is called on a thread that must not wait."""

    def __init__(self, tokenizer: Any, vocab_size: int) -> None:
        self._special = frozenset(tokenizer.all_special_ids)
        self._names = tokenizer.convert_ids_to_tokens
        self._size = len(tokenizer)
        self._n_vocab, self._eos = max(vocab_size, len(tokenizer)), sorted(tokenizer.eos_token_ids)
        self._tokenizer = tokenizer._tokenizer
        self._guard: GrammarGuard | None = None
        self._schemas = Recent[Grammar, Enforceable](KEPT_SCHEMAS)
        self._words: Words | None = None
        self._objections = Recent[str, str | None](KEPT_OBJECTIONS)

    @cached_property
    def tokens(self) -> LLTokenizer:
        """llguidance's own form of it, made when it is first wanted: that takes half a second."""
        return llguidance.hf.from_tokenizer(self._tokenizer, n_vocab=self._n_vocab, eos_token=self._eos)

    def prepare(self) -> None:
        """Have `tokens` made, so that nobody waits for them afterwards."""
        _ = self.tokens

    def close(self) -> None:
        """End what was started for clients' grammars. Idempotent; from any thread."""
        if self._guard is not None:
            self._guard.close()

    def describe(self, token: int, logprob: float | None) -> TokenLogprob:
        """A token with its own bytes; special ones have their name."""
        if token in self._special:
            name = str(self._names(token))
            return TokenLogprob(name, name.encode(), logprob, token)
        raw = self.tokens.decode_bytes([token]) if token < self._size else b""
        return TokenLogprob(raw.decode(errors="replace"), raw, logprob, token)

    def compile(self, grammar: Grammar) -> Matcher:
        """A matcher at its beginning, for one answer: its copies share its lexer, with its states and its error.
        Raises InvalidRequest with the reason."""
        matcher = self._compiled(grammar)
        return self.watched(matcher, {b"": self.enforced(grammar)})

    def watched(self, matcher: LLMatcher, heads: dict[bytes, Enforceable]) -> Matcher:
        """A matcher that sees to what llguidance does not, in the documents that begin behind `heads`."""
        watched = {head: made.schema for head, made in heads.items() if made.watched}
        if not watched:
            return matcher
        if self._words is None:
            texts = [self.tokens.decode_bytes([token]) for token in range(self._size)]
            self._words = Words(texts, len(matcher.compute_bitmask()))
        return DistinctMatcher(matcher, JsonWatch(watched), self._words)

    def _compiled(self, grammar: Grammar) -> LLMatcher:
        try:
            return self.matcher(self.source(grammar), grammar.param)
        except InvalidRequest as error:
            if grammar.kind != "json_schema" or (grammar.guaranteed and COMPLEX in error.message):
                raise
        self._schemas.put(grammar, self._settled(grammar))
        return self.matcher(self.source(grammar), grammar.param)

    def matcher(self, source: str, param: str) -> LLMatcher:
        """The same for a grammar in llguidance's own notation."""
        self.check(source, param)
        matcher = LLMatcher(self.tokens, source, log_level=0, limits=matcher_limits())
        if matcher.is_error():
            raise unusable(param, matcher.get_error())
        return matcher

    def check(self, source: str, param: str) -> None:
        """Raise InvalidRequest with the reason if a grammar in llguidance's own notation can't be used."""
        if (reason := self.objection(source)) is not None:
            raise unusable(param, reason)

    def source(self, grammar: Grammar) -> str:
        """A grammar in llguidance's own notation. Raises InvalidRequest with the reason."""
        if grammar.kind != "json_schema":
            return source_of(grammar)
        return source_of_schema(self.enforced(grammar).schema)

    def enforced(self, grammar: Grammar) -> Enforceable:
        """What is enforced of a schema; of another grammar that is everything. The last few are kept."""
        if grammar.kind != "json_schema":
            return Enforceable({})
        return self._schemas.get(grammar, lambda: of_schema(grammar))

    def objection(self, source: str) -> str | None:
        """Why a grammar can't be used; None if it can. It is tried in a process of its own, once: the last few answers
        are kept."""
        if self._guard is None:
            self._guard = GrammarGuard(tokenizer_json(self._tokenizer), self._n_vocab, self._eos)
        reason = self._objections.get(source, partial(self._guard.objection, source))
        if reason is not None and reason.startswith(COMPLEX):  # which depends on what else the machine does
            self._objections.drop(source)
        return reason

    def _settled(self, grammar: Grammar) -> Enforceable:
        given = json.loads(grammar.text)
        return settled(given, grammar.param, self.objection, guaranteed=grammar.guaranteed)


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
    except InvalidRequest:
        raise
    except Exception as error:  # noqa: BLE001 - llguidance's translator of GBNF raises plain exceptions
        raise unusable(grammar.param, str(error)) from None


def translated(grammar: Grammar) -> str:
    """What llguidance's translators make of a grammar. Raises what they raise."""
    match grammar.kind:
        case "json_schema":
            return source_of_schema(of_schema(grammar).schema)
        case "regex":
            return LLMatcher.grammar_from_regex(grammar.text)
        case "gbnf":
            return LLMatcher.grammar_from_lark(in_lark(grammar.text))
        case "lark":
            return LLMatcher.grammar_from_lark(grammar.text)
        case "choice":
            options = " | ".join(json.dumps(option, ensure_ascii=False) for option in json.loads(grammar.text))
            return LLMatcher.grammar_from_lark(f"start: {options}")


def of_schema(grammar: Grammar) -> Enforceable:
    """What is enforced of a JSON schema, before it is tried. Raises InvalidRequest."""
    return enforceable(json.loads(grammar.text), grammar.param, guaranteed=grammar.guaranteed)


def unusable(param: str, reason: str) -> InvalidRequest:
    """The refusal of a grammar."""
    return InvalidRequest(f"`{param}` can't be enforced: {' '.join(reason.split())}", param, "invalid_grammar")
