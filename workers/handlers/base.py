"""What a worker asks of a kind of model. The same steps for all; nothing here knows MLX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mlx_server.schemas.generation import GenerationRequest
from mlx_server.schemas.messages import Load, Loading, ModelFacts
from mlx_server.workers.sequence import Key, Produced, Sequence


class ModelLoadError(Exception):
    """Raised when a model can't be served; the message is one line for the person who started the server."""


class TextStream(Protocol):
    """One sequence's tokens as text. Lives on the event loop's thread."""

    @property
    def stopped(self) -> bool:
        """A stop string was met: nothing more belongs to the text."""

    def add(self, token: int) -> str:
        """The text that is certain after one more token; may be empty."""

    def finish(self) -> str:
        """The text that was held back."""


class Handler(Protocol):
    """A model behind the engine thread. Unless said otherwise, methods are called on that thread only."""

    def load(self, spec: Load, report: Callable[[Loading], None]) -> ModelFacts:
        """Make the model ready to answer. Raises ModelLoadError."""

    def prepare(self, ticket: int, request: GenerationRequest) -> list[Sequence]:
        """Turn a request into sequences. Called on the tokenizer's thread. Raises InvalidRequest."""

    def text_stream(self, sequence: Sequence) -> TextStream:
        """A stream for one sequence. Called on the event loop's thread."""

    @property
    def busy(self) -> bool:
        """Some sequence wants a step."""

    def add(self, sequence: Sequence) -> None:
        """Take a sequence in; the next steps work on it."""

    def remove(self, key: Key) -> None:
        """Drop a sequence at whatever stage it is; unknown keys are ignored."""

    def step(self) -> list[Produced]:
        """One decode step for all running sequences, and at most one chunk of prefill."""

    def close(self) -> None:
        """Release everything the model holds."""
