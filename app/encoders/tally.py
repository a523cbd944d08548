"""Token counts of an answer, summed over its sequences as they finish, or while they grow."""

from __future__ import annotations

from collections import defaultdict

from mlx_server.schemas.internal.messages import Finished, Part, Reasoning, Started
from mlx_server.schemas.openai.common import CompletionTokensDetails, PromptTokensDetails, Usage


class Tally:
    """Adds up what finished sequences cost."""

    def __init__(self) -> None:
        self._prompt = self._cached = self._completion = self._reasoning = self._proposed = self._accepted = 0

    def add(self, event: Finished) -> None:
        """Count one sequence."""
        self._prompt += event.prompt_tokens
        self._cached += event.cached_tokens
        self._completion += event.completion_tokens
        self._reasoning += event.reasoning_tokens
        self._proposed += event.drafted_tokens
        self._accepted += event.accepted_tokens

    def usage(self) -> Usage:
        """OpenAI's usage object."""
        counts = self._prompt, self._cached, self._completion, self._reasoning
        return usage_of(*counts, self._accepted, self._proposed - self._accepted)


class SoFar:
    """Counts an answer while it grows. Of a sequence that ends, what it says at its end holds."""

    def __init__(self) -> None:
        self._prompt = self._cached = 0
        self._written: dict[int, int] = defaultdict(int)
        self._thought: dict[int, int] = defaultdict(int)

    def begin(self, started: Started) -> None:
        """The prompts, which are read."""
        self._prompt, self._cached = started.prompt_tokens, started.cached_tokens

    def add(self, event: Part | Finished) -> None:
        """Count what a sequence has written, or has written in all."""
        if isinstance(event, Finished):
            self._written[event.index] = event.completion_tokens
            self._thought[event.index] = event.reasoning_tokens
            return
        self._written[event.index] += event.tokens
        if isinstance(event, Reasoning):
            self._thought[event.index] += event.tokens

    def usage(self) -> Usage:
        """OpenAI's usage object."""
        return usage_of(self._prompt, self._cached, sum(self._written.values()), sum(self._thought.values()))


def usage_of(prompt: int, cached: int, completion: int, reasoning: int, accepted: int = 0, rejected: int = 0) -> Usage:
    """OpenAI's usage object, of tokens; some that were proposed were `accepted`, others `rejected`."""
    return Usage(
        prompt,
        completion,
        prompt + completion,
        PromptTokensDetails(cached),
        CompletionTokensDetails(reasoning, accepted, rejected),
    )
