"""What handlers of models have in common that take no prompts of tokens: they hear, speak or draw."""

from __future__ import annotations

from collections.abc import Iterable

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Prompt, ToolUse
from mlx_server.schemas.internal.messages import KeptPrefix, PrefixOf
from mlx_server.workers.engine.jobs import Job, JobAnswer
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.handlers.real_model import ModelHandler

NO_TOKENS = "This model takes no prompts of tokens."


class WordlessHandler(ModelHandler):
    """Everything but loading and preparing, which sets `engine`."""

    def tokens(self, prompt: Prompt, tool_use: ToolUse, tenant: str | None = None) -> list[int]:
        """Raises InvalidRequest."""
        raise InvalidRequest(NO_TOKENS, "model")

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Raises InvalidRequest."""
        raise InvalidRequest(NO_TOKENS, "model")

    def text(self, ids: Iterable[int]) -> str:
        """Raises InvalidRequest."""
        raise InvalidRequest(NO_TOKENS, "model")

    def kept_prefix(self, question: PrefixOf) -> KeptPrefix:
        """Raises InvalidRequest."""
        raise InvalidRequest(NO_TOKENS, "model")

    def answer_stream(self, sequence: Sequence) -> JobAnswer:
        """A stream for one request."""
        assert isinstance(sequence, Job)
        return JobAnswer(sequence)
