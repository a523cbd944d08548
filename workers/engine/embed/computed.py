"""The answers to requests that write no text."""

from __future__ import annotations

from collections.abc import Iterable

from mlx_server.schemas.internal.messages import Finished, FinishReason, Result, Started
from mlx_server.workers.engine.embed.inputs.job import EmbeddingJob
from mlx_server.workers.engine.sequence import Computed, Echoed, Token


class ComputedAnswer:
    """Passes results on as they come. Lives on the event loop's thread."""

    def __init__(self, computation: EmbeddingJob) -> None:
        self.finish: FinishReason | None = None
        self._key = computation.key
        self._computation = computation
        self._prompt_tokens = computation.prompt_tokens

    def started(self) -> Started:
        """What its inputs take."""
        return Started(*self._key, self._prompt_tokens, 0)

    def add(self, item: Token | Echoed | Computed) -> Iterable[Result]:
        """One step's results."""
        if not isinstance(item, Computed):
            raise TypeError("this request writes no text")
        self.finish = item.finish
        return item.results

    def finished(self) -> Finished:
        """The end, with all tokens that were computed and all pictures that were looked at."""
        assert self.finish is not None
        encoded, cached = self._computation.media_counts()
        return Finished(*self._key, self.finish, self._prompt_tokens, 0, 0, encoded_media=encoded, cached_media=cached)
