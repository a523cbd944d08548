"""What handlers of models that write no text have in common."""

from __future__ import annotations

from collections.abc import Iterable

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Prompt, ToolUse
from mlx_server.schemas.internal.messages import KeptPrefix, PrefixOf
from mlx_server.workers.engine.embed.computed import ComputedAnswer
from mlx_server.workers.engine.embed.inputs.input_texts import InputTexts
from mlx_server.workers.engine.embed.inputs.job import EmbeddingJob
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.handlers.real_model import ModelHandler


class ComputingHandler(ModelHandler):
    """Everything but loading and preparing, which set `engine` and `_texts`."""

    _texts: InputTexts

    def tokens(self, prompt: Prompt, tool_use: ToolUse, tenant: str | None = None) -> list[int]:
        """The tokens of a text. Raises InvalidRequest."""
        return self._texts.prompt(prompt)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The vocabulary's entries."""
        return self._texts.pieces(ids)

    def text(self, ids: Iterable[int]) -> str:
        """Their text. Raises InvalidRequest."""
        return self._texts.text(ids)

    def kept_prefix(self, question: PrefixOf) -> KeptPrefix:
        """Raises InvalidRequest: nothing is kept of texts."""
        raise InvalidRequest("This model writes no text, and nothing is kept of its inputs.", "model")

    def answer_stream(self, sequence: Sequence) -> ComputedAnswer:
        """A stream for one request."""
        assert isinstance(sequence, EmbeddingJob)
        return ComputedAnswer(sequence)
