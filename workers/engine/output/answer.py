"""From one sequence's tokens to the parts of its answer: text, reasoning, calls, log-probabilities, counts."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable

import msgspec

from mlx_server.schemas.internal.messages import (
    ChosenToken,
    Finished,
    FinishReason,
    Part,
    PromptReport,
    Reasoning,
    Started,
    Text,
    TokenLogprob,
    ToolCall,
)
from mlx_server.workers.engine.output.detokenize import DetokenizedText, StopScanner
from mlx_server.workers.engine.output.tool_calls.markup import Called, Markup, Piece, Thought, VisibleText
from mlx_server.workers.engine.sequence import Computed, Echoed, Sequence, Token

Describe = Callable[[int, float | None], TokenLogprob]
"""A token's text and bytes, by its id, with its log-probability."""


LONGEST_SILENCE = 64
"""Tokens after which an empty part counts them, even if their text is not certain: no reader should take them for
none."""


class Answer:
    """One sequence's answer as it grows. Event loop only."""

    def __init__(self, sequence: Sequence, text: DetokenizedText, markup: Markup, describe: Describe) -> None:
        self.finish: FinishReason | None = None
        self._sequence = sequence
        self._text = text
        self._markup = markup
        self._stops = StopScanner(sequence.limits.stop, include=sequence.limits.include_stop)
        self._describe = describe
        self._tokens = self._reasoning_tokens = self._uncounted = 0
        self._untold: list[int] = []
        """Ids to report that no part has counted yet."""
        self._tells_prompt = sequence.token_ids
        self._logprob_sum = 0.0
        self._stop_token: str | None = None
        self._said = self._shown = 0
        """Visible characters so far, and how many of them were sent."""
        self._unsent: list[tuple[int, ChosenToken]] = []
        """Tokens to report, each with the number of visible characters before it."""

    def add(self, item: Token | Echoed | Computed) -> list[Part]:
        """The parts that are certain after one more token, and after the last one all that was held back; or the
        echo."""
        match item:
            case Token():
                return [*self._prompt(), *self._add(item)]
            case Echoed():
                return self._echo(item)
            case Computed():
                raise TypeError("a text is made of tokens")

    def _add(self, token: Token) -> list[Part]:
        self._tokens += 1
        self._uncounted += 1
        if self._sequence.token_ids:
            self._untold.append(token.token)
        self._reasoning_tokens += self._markup.thinking
        text = self._text_of(token)
        if token.logprob is not None and (text is not None or self._sequence.token_ids):
            self._logprob_sum += 0.0 if text is None else token.logprob
            self._unsent.append((self._said, self._chosen(token.token, token.logprob, token.top)))
        pieces = self._markup.feed(text) if text else []
        if token.finish and not self._markup.complete:
            pieces = [
                *pieces,
                *self._markup.feed(self._text.finish()),
                *self._markup.flush(cut=token.finish == "length"),
            ]
        parts = [part for piece in pieces if (part := self._part(piece)) is not None]
        if self._stops.met is None and token.finish and (held := self._stops.flush()):
            parts.append(self._visible(held))
        self.finish = self._why(token.finish)
        return self._counted(parts)

    def _echo(self, echoed: Echoed) -> list[Part]:
        """The prompt as a part. It is not searched for stop strings: it is no text of the answer."""
        sequence, key = self._sequence, self._sequence.key
        self.finish = echoed.finish
        shown = self._scored(echoed, None if sequence.echo is None else sequence.logprobs)
        return [Text(*key, sequence.echo or "", 0, shown, prompt=self._report(echoed))]

    def _prompt(self) -> list[Part]:
        """The report on the prompt, once, unless the echo carried it."""
        report = self._report()
        return [] if report is None else [Text(*self._sequence.key, "", 0, prompt=report)]

    def _report(self, echoed: Echoed | None = None) -> PromptReport | None:
        sequence, tells_ids = self._sequence, self._tells_prompt
        self._tells_prompt = False
        ids = tuple(sequence.prompt) if tells_ids else ()
        if echoed is None or sequence.prompt_logprobs is None:
            return PromptReport(ids) if tells_ids else None
        return PromptReport(ids, self._scored(echoed, sequence.prompt_logprobs), (0, *echoed.ranks))

    def _scored(self, echoed: Echoed, most: int | None) -> tuple[ChosenToken, ...]:
        """The prompt's tokens with `most` alternatives each; none at all if that is None."""
        if most is None:
            return ()
        prompt = self._sequence.prompt
        reports = zip(prompt[1:], echoed.reports, strict=True)
        first = ChosenToken(self._describe(prompt[0], None))
        return (first, *(self._chosen(token, logprob, top[:most]) for token, (logprob, top) in reports))

    def started(self) -> Started:
        """The counts of the prompt's tokens, which `finished` repeats."""
        return Started(*self._sequence.key, self._prompt_tokens(), self._sequence.cached_tokens)

    def finished(self) -> Finished:
        """The end of an answer that has one, with all counts."""
        assert self.finish is not None
        return Finished(
            *self._sequence.key,
            self.finish,
            self._prompt_tokens(),
            self._sequence.cached_tokens,
            self._tokens,
            self._reasoning_tokens,
            self._stops.met or self._stop_token,
            self._logprob_sum / self._tokens if self._tokens else 0.0,
            self._sequence.drafted,
            self._sequence.accepted,
            self._sequence.encoded_media,
            self._sequence.cached_media,
        )

    def _prompt_tokens(self) -> int:
        return 0 if self._sequence.follows else len(self._sequence.prompt)

    def _text_of(self, token: Token) -> str | None:
        """The text that a token makes certain; None for one that only ends the sequence."""
        if token.finish == "stop":
            limits = self._sequence.limits
            if token.token in limits.stop_token_ids:
                self._stop_token = self._describe(token.token, None).text
            if not (self._stop_token and limits.include_stop):
                return None
        return self._text.add(token.token)

    def _chosen(self, token: int, logprob: float, top: Iterable[tuple[int, float]]) -> ChosenToken:
        return ChosenToken(self._describe(token, logprob), tuple(self._describe(*other) for other in top))

    def _part(self, piece: Piece) -> Part | None:
        if self._stops.met is not None:
            return None
        match piece:
            case VisibleText(text):
                self._said += len(text)
                early = self._tokens < self._sequence.limits.min_tokens
                shown = text if early else self._stops.feed(text)
                return self._visible(shown) if shown else None
            case Thought(text):
                self._pass_over()
                return Reasoning(*self._sequence.key, text, 0)
            case Called(call, arguments, name):
                self._pass_over()
                id_ = None if name is None else f"call_{uuid.uuid4().hex[:24]}"
                return ToolCall(*self._sequence.key, call, arguments, 0, id_, name)

    def _pass_over(self) -> None:
        """Drop the reports of tokens that are no text, unless each id has its report."""
        if not self._sequence.token_ids:
            self._unsent.clear()

    def _visible(self, text: str) -> Text:
        """Text as a part, with the tokens that begin in it."""
        self._shown += len(text)
        begun = [chosen for at, chosen in self._unsent if at < self._shown]
        del self._unsent[: len(begun)]
        return Text(*self._sequence.key, text, 0, tuple(begun))

    def _why(self, finish: FinishReason | None) -> FinishReason | None:
        if self._stops.met is not None:
            return "stop"
        if self._markup.complete or (finish == "stop" and self._markup.calls):
            return "tool_calls"
        return finish

    def _counted(self, parts: list[Part]) -> list[Part]:
        """The same parts, the first of which counts all tokens that are not counted yet."""
        if self._unsent and (self.finish == "length" or (self.finish and self._sequence.token_ids)):
            parts.append(Text(*self._sequence.key, "", 0, tuple(chosen for _, chosen in self._unsent)))
        if not parts and (self.finish or self._uncounted >= LONGEST_SILENCE):
            parts.append(Text(*self._sequence.key, "", 0))
        if parts:
            parts[0] = msgspec.structs.replace(parts[0], tokens=self._uncounted, ids=tuple(self._untold))
            self._uncounted = 0
            self._untold.clear()
        return parts
