"""`/v1/completions`, whole and streamed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mlx_server.app.encoders import sse
from mlx_server.app.encoders.collected import Collected
from mlx_server.app.encoders.head import Head
from mlx_server.app.encoders.openai_base import CompletionsEncoder, logprob_of, prompt_logprobs
from mlx_server.schemas.internal.messages import ChosenToken, Finished, Part, PromptReport, Text
from mlx_server.schemas.internal.progress import PromptProgress
from mlx_server.schemas.openai.common import PerformanceMetrics, Usage
from mlx_server.schemas.openai.completions import (
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    CompletionRequest,
)


class CompletionEncoder(CompletionsEncoder):
    """One answer; choices for each prompt."""

    def __init__(self, head: Head, given: CompletionRequest) -> None:
        super().__init__(head, given)
        self._n = given.n or 1
        self._best_of = given.best_of or self._n
        self._logprobs = given.logprobs
        self._offsets: dict[int, int] = {}
        self._prompts: dict[int, PromptReport] = {}
        """What is told of prompts with the first chunk of each choice."""

    def opening(self) -> bytes:
        """Text completions begin with their text."""
        return b""

    def alive(self, progress: PromptProgress | None) -> bytes:
        """A chunk with an empty text, for clients that look at the first choice."""
        chunk = self._completion([CompletionChoice(0, "")])
        return sse.event(chunk if progress is None else msgspec.structs.replace(chunk, progress=progress))

    def part(self, event: Part | Finished) -> bytes:
        """A chunk for each text that is not empty, and for each end."""
        if isinstance(event, Text) and event.prompt is not None:
            self._prompts[event.index] = event.prompt
        match event:
            case Text() if event.text or event.logprobs or event.ids:
                offset = self._offsets.get(event.index, 0)
                self._offsets[event.index] = offset + len(event.text)
                report = self._report(event.logprobs, offset)
                choice = CompletionChoice(event.index, event.text, None, report, token_ids=self.reported_ids(event.ids))
            case Finished():
                choice = CompletionChoice(event.index, "", event.reason, token_ids=self.reported_ids(()))
            case _:
                return b""
        if (prompt := self._prompts.pop(event.index, None)) is not None:
            choice = msgspec.structs.replace(choice, prompt_token_ids=self.reported_ids(prompt.ids))
        return sse.event(self._completion([choice]))

    def last(self, usage: Usage) -> Completion:
        """The chunk that tells the usage."""
        return self._completion([], self.final_usage(usage), self.performance(usage))

    def answer(self, choices: list[Collected], usage: Usage) -> Completion:
        """The answer in one piece, with the best `n` of `best_of` choices for each prompt."""
        chosen = []
        for start in range(0, len(choices), self._best_of):
            group = choices[start : start + self._best_of]
            for choice in group:
                choice.prompt = group[0].prompt
            chosen += sorted(group, key=mean_logprob, reverse=True)[: self._n] if self._best_of > self._n else group
        return self._completion(
            [self._choice(i, choice) for i, choice in enumerate(chosen)], usage, self.performance(usage)
        )

    def _choice(self, index: int, collected: Collected) -> CompletionChoice:
        assert collected.end is not None
        report, prompt = self._report(collected.logprobs, 0), collected.prompt
        return CompletionChoice(
            index,
            collected.text,
            collected.end.reason,
            report,
            self.reported_ids(prompt.ids) if prompt else msgspec.UNSET,
            self.reported_ids(collected.ids),
            prompt_logprobs(prompt),
        )

    def _report(self, chosen: Sequence[ChosenToken], offset: int) -> CompletionLogprobs | None:
        if self._logprobs is None:
            return None
        report = CompletionLogprobs([], [], [], [])
        for token, named in zip(chosen, self.named(chosen), strict=True):
            report.tokens.append(named.token.text)
            report.token_logprobs.append(logprob_of(token.token))
            report.text_offset.append(offset)
            offset += len(token.token.text)
            first = token.token.logprob is None
            tops = (*named.top, named.token)
            report.top_logprobs.append(None if first else {t.text: logprob_of(t) or 0.0 for t in tops})
        return report

    def _completion(
        self,
        choices: list[CompletionChoice],
        usage: Usage | msgspec.UnsetType | None = None,
        performance: PerformanceMetrics | msgspec.UnsetType = msgspec.UNSET,
    ) -> Completion:
        return Completion(
            f"cmpl-{self.head.id}",
            "text_completion",
            self.head.created,
            self.head.model,
            choices,
            self.usage_so_far if usage is None else usage,
            self.head.fingerprint,
            conversation_id=self.conversation_id,
            performance_metrics=performance,
        )


def mean_logprob(choice: Collected) -> float:
    """How likely the model found an answer, in nats per token."""
    return choice.end.mean_logprob if choice.end else 0.0
