"""Token counts of an answer, summed over its sequences as they finish."""

from __future__ import annotations

from mlx_server.schemas.messages import Finished
from mlx_server.schemas.openai import PromptTokensDetails, Usage


class Tally:
    """Adds up what finished sequences cost."""

    def __init__(self) -> None:
        self._prompt = self._cached = self._completion = 0

    def add(self, event: Finished) -> None:
        """Count one sequence."""
        self._prompt += event.prompt_tokens
        self._cached += event.cached_tokens
        self._completion += event.completion_tokens

    def usage(self) -> Usage:
        """OpenAI's usage object."""
        details = PromptTokensDetails(self._cached)
        return Usage(self._prompt, self._completion, self._prompt + self._completion, details)
