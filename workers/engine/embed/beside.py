"""Embeddings beside text: a model that writes also embeds, one pass between two of its steps."""

from __future__ import annotations

from mlx_server.workers.engine.embed.inputs.job import EmbeddingJob
from mlx_server.workers.engine.engine import Engine
from mlx_server.workers.engine.sequence import Key, Produced, Sequence


class EmbeddingBeside:
    """An engine for embeddings beside one for text. Engine thread only."""

    def __init__(self, writing: Engine, embedding: Engine) -> None:
        self._writing = writing
        self._embedding = embedding

    @property
    def busy(self) -> bool:
        """Whether any sequence needs a step."""
        return self._embedding.busy or self._writing.busy

    def add(self, sequence: Sequence) -> None:
        """Take in a sequence."""
        (self._embedding if isinstance(sequence, EmbeddingJob) else self._writing).add(sequence)

    def remove(self, key: Key) -> None:
        """Drop a sequence, wherever it is; unknown keys are ignored."""
        self._embedding.remove(key)
        self._writing.remove(key)

    def step(self) -> list[Produced]:
        """One step of each engine that is busy."""
        return [item for engine in (self._embedding, self._writing) if engine.busy for item in engine.step()]

    def close(self) -> None:
        """Release all sequences."""
        self._embedding.close()
        self._writing.close()
