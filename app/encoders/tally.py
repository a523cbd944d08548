"""Token counts of an answer, summed over its sequences as they finish."""

from __future__ import annotations

from mlx_server.schemas.messages import Finished
from mlx_server.schemas.openai import CompletionTokensDetails, PromptTokensDetails, Usage


class Tally:
    """Adds up what finished sequences cost."""

    def __init__(self) -> None:
        self._prompt = self._cached = self._completion = self._reasoning = 0

    def add(self, event: Finished) -> None:
        """Count one sequence."""
        self._prompt += event.prompt_tokens
        self._cached += event.cached_tokens
        self._completion += event.completion_tokens
        self._reasoning += event.reasoning_tokens

    def usage(self) -> Usage:
        """OpenAI's usage object."""
        return Usage(
            self._prompt,
            self._completion,
            self._prompt + self._completion,
            PromptTokensDetails(self._cached),
            CompletionTokensDetails(self._reasoning),
        )
