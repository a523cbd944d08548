"""Models that write down what is said: how they are loaded, and how a request becomes their work."""

from __future__ import annotations

from typing import Protocol

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.sound import TranscriptionRequest
from mlx_server.workers.engine.engine import Engine
from mlx_server.workers.engine.hear.transcription import OpenedTranscription
from mlx_server.workers.engine.jobs import Job


class Hearing(Protocol):
    """A loaded model that hears."""

    @property
    def engine(self) -> Engine:
        """What steps its jobs."""

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639 codes of what it understands; none where it does not say."""

    def check(self, request: TranscriptionRequest) -> None:
        """Raises InvalidRequest for what the model can't do, before anything is decoded."""

    def job(self, ticket: int, request: OpenedTranscription) -> Job:
        """A request's work, for `engine`. Raises InvalidRequest."""


def check_language(given: str | None, languages: tuple[str, ...]) -> None:
    """Raises InvalidRequest for a language that the model does not know."""
    if given is not None and languages and given not in languages:
        known = ", ".join(languages)
        raise InvalidRequest(f"`language`: {given!r} is none that this model knows: {known}.", "language")
