"""What OpenAI's two kinds of completion share: the usage at the end, the mark after it, the shape of an error."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence

import msgspec

from mlx_server.app.encoders import sse
from mlx_server.app.encoders.collected import Collected, collect
from mlx_server.app.encoders.head import Head
from mlx_server.app.encoders.tally import SoFar, Tally
from mlx_server.app.http.errors import Answer
from mlx_server.schemas.internal.messages import ChosenToken, Finished, Part, PromptReport, Started, TokenLogprob
from mlx_server.schemas.internal.progress import PromptProgress
from mlx_server.schemas.openai.chat import ChosenLogprob, Logprob
from mlx_server.schemas.openai.common import CompletionFields, PerformanceMetrics, PromptLogprob, PromptLogprobs, Usage


class CompletionsEncoder:
    """One answer to a chat or a text completion."""

    def __init__(self, head: Head, given: CompletionFields) -> None:
        self.head = head
        self.conversation_id = given.conversation_id or msgspec.UNSET
        self._began_s = time.monotonic() if given.performance_metrics or head.performance else None
        self._include_usage = given.include_usage()
        self._so_far = SoFar() if given.continuous_usage() else None
        self._returns_ids = bool(given.return_token_ids)
        self._names_ids = bool(given.return_tokens_as_token_ids)
        self._tally = Tally()

    def begin(self, started: Started | None = None) -> bytes:
        """What comes before the first text."""
        if self._so_far is not None and started is not None:
            self._so_far.begin(started)
        return self.opening()

    @abstractmethod
    def opening(self) -> bytes:
        """The chunks that come before the first text."""

    @abstractmethod
    def alive(self, progress: PromptProgress | None) -> bytes:
        """A chunk that says nothing."""

    @abstractmethod
    def part(self, event: Part | Finished) -> bytes:
        """The chunks for one event."""

    @abstractmethod
    def last(self, usage: Usage) -> msgspec.Struct:
        """The chunk that tells the usage."""

    @abstractmethod
    def answer(self, choices: list[Collected], usage: Usage) -> msgspec.Struct:
        """The answer in one piece."""

    @property
    def usage_so_far(self) -> Usage | msgspec.UnsetType | None:
        """What every chunk but the last says of usage: null where one is to come, or what there is until then."""
        if self._so_far is not None:
            return self._so_far.usage()
        return None if self._include_usage else msgspec.UNSET

    def performance(self, usage: Usage) -> PerformanceMetrics | msgspec.UnsetType:
        """How fast it went, if that was asked for."""
        if self._began_s is None:
            return msgspec.UNSET
        seconds = time.monotonic() - self._began_s
        return PerformanceMetrics(round(seconds * 1000, 3), round(usage.completion_tokens / seconds, 3))

    def reported_ids(self, ids: Sequence[int]) -> list[int] | msgspec.UnsetType:
        """Tokens' ids, if they were asked for."""
        return list(ids) if self._returns_ids else msgspec.UNSET

    def named(self, chosen: Iterable[ChosenToken]) -> list[ChosenToken]:
        """Tokens with the names that the answer has for them: their texts, or their ids."""
        return [by_id(token) for token in chosen] if self._names_ids else list(chosen)

    def events(self, events: Iterable[Part | Finished]) -> bytes:
        """The chunks of a stream."""
        out = []
        for event in events:
            if isinstance(event, Finished):
                self._tally.add(event)
            if self._so_far is not None:
                self._so_far.add(event)
            out.append(self.part(event))
        return b"".join(out)

    def end(self) -> bytes:
        """The usage and how fast it went, if they were asked for, and the mark that all is said."""
        wanted = self._include_usage or self._began_s is not None
        return (sse.event(self.last(self._tally.usage())) if wanted else b"") + sse.DONE

    def final_usage(self, usage: Usage) -> Usage | msgspec.UnsetType:
        """The usage in a stream's last chunk, if it was asked for."""
        return usage if self._include_usage else msgspec.UNSET

    def whole(self, events: list[Part | Finished]) -> bytes:
        """The answer in one piece."""
        for event in events:
            if isinstance(event, Finished):
                self._tally.add(event)
        return msgspec.json.encode(self.answer(collect(events), self._tally.usage()))

    def error(self, answer: Answer) -> bytes:
        """A failure after the stream has begun."""
        return sse.error(answer)


def chosen_logprobs(chosen: Iterable[ChosenToken]) -> list[ChosenLogprob]:
    """An answer's tokens with their alternatives, as chat completions and responses show them."""
    return [
        ChosenLogprob(
            c.token.text,
            logprob_of(c.token) or 0.0,
            list(c.token.raw),
            [Logprob(top.text, logprob_of(top) or 0.0, list(top.raw)) for top in c.top],
        )
        for c in chosen
    ]


def logprob_of(token: TokenLogprob) -> float | None:
    """In nats; OpenAI's -9999 for what can't be, None for what has no probability."""
    return None if token.logprob is None else max(-9999.0, token.logprob)


def by_id(chosen: ChosenToken) -> ChosenToken:
    """The same, with ids in the place of texts."""
    token, *top = (msgspec.structs.replace(one, text=f"token_id:{one.id}") for one in (chosen.token, *chosen.top))
    return ChosenToken(token, tuple(top))


def prompt_logprobs(report: PromptReport | None) -> PromptLogprobs | msgspec.UnsetType:
    """A prompt's tokens, if they were scored, each beside the most probable ones in its place."""
    if report is None or not report.logprobs:
        return msgspec.UNSET
    return [None, *(prompt_logprob(*one) for one in zip(report.logprobs[1:], report.ranks[1:], strict=True))]


def prompt_logprob(chosen: ChosenToken, rank: int) -> dict[str, PromptLogprob]:
    """The tokens of one place of a prompt, by their ids: its own first, then the most probable ones."""
    ranked = ((chosen.token, rank), *zip(chosen.top, range(1, len(chosen.top) + 1), strict=True))
    return {str(token.id): PromptLogprob(logprob_of(token) or 0.0, place, token.text) for token, place in ranked}
