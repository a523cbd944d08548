"""Makes the answers of one model: what every handler of a model that writes text shares."""

from __future__ import annotations

from typing import Any

from mlx_server.workers.engine.grammar.vocabulary import Vocabulary
from mlx_server.workers.engine.output.answer import Answer
from mlx_server.workers.engine.output.detokenize import DetokenizedText, follow, unknown_tokens
from mlx_server.workers.engine.output.output_format import OutputFormat
from mlx_server.workers.engine.output.tool_calls.markup import Markup, PlainText
from mlx_server.workers.engine.output.tool_calls.tool_formats import HERMES
from mlx_server.workers.engine.sequence import Sequence

PRIMING_TOKENS = 4
"""Tokens of a prompt that a detokeniser sees before the text that continues it: more than one character needs."""


class AnswerFactory:
    """Its answers share one token map. Event loop's thread only, once made."""

    def __init__(self, tokenizer: Any, vocab_size: int, vocabulary: Vocabulary, output_format: OutputFormat) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._textless = unknown_tokens(tokenizer, vocab_size)
        self._silent = self._textless | frozenset(tokenizer.all_special_ids)
        # A model whose template knows no tools is told to write Hermes' JSON.
        self._dialects = {False: output_format, True: output_format.speaking(HERMES)}
        self._silent_in = {
            (hermes, calls): self._silent - spoken.mark_tokens(tokenizer, calls=calls)
            for hermes, spoken in self._dialects.items()
            for calls in (False, True)
        }

    def answer(self, sequence: Sequence) -> Answer:
        """A stream for one sequence."""
        detokenizer = self._tokenizer.detokenizer
        if sequence.continues_text:
            follow(detokenizer, [token for token in sequence.prompt[-PRIMING_TOKENS:] if token not in self._silent])
        speech, thinking = sequence.speech, sequence.thinking
        plain: Markup = PlainText()
        if speech is None:
            silent, markup = self._silent, plain
        else:
            silent = self._silent_in[speech.hermes, speech.calls]
            starts = thinking is not None and thinking.thinks
            markup = self._dialects[speech.hermes].markup(speech, starts_thinking=starts)
        if not sequence.limits.skip_special_tokens:
            silent = self._textless
        return Answer(sequence, DetokenizedText(detokenizer, silent), markup, self._vocabulary.describe)
