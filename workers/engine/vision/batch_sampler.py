"""Samplers of rows that draw together, some of which report what they drew from."""

from __future__ import annotations

import mlx.core as mx

from mlx_server.workers.engine.sampling.batch_sampler import RowSamplers
from mlx_server.workers.engine.sampling.logprobs import log_softmax
from mlx_server.workers.engine.sequence import Key, Sequence


class ReportingSamplers(RowSamplers):
    """The samplers of a batch's rows, with the log-probabilities of the latest tokens where they are wanted."""

    def __init__(self) -> None:
        super().__init__()
        self._drawn: dict[Key, mx.array | None] = {}

    def add(self, sequence: Sequence) -> None:
        """Add a row that draws, and reports, as its sequence asks for."""
        super().add(sequence)
        if sequence.logprobs is not None:
            self._drawn[sequence.key] = None

    def remove(self, key: Key) -> None:
        """Remove a row; unknown keys are ignored."""
        super().remove(key)
        self._drawn.pop(key, None)

    def clear(self) -> None:
        """Remove all rows."""
        super().clear()
        self._drawn.clear()

    def drawn(self) -> dict[Key, mx.array]:
        """The log-probabilities [1, V] in nats that the latest token was drawn from, of each row that reports them."""
        return {key: drawn for key, drawn in self._drawn.items() if drawn is not None}

    def draw(self, keys: list[Key], logits: mx.array) -> mx.array:
        """The rows' next token ids uint32 [B], from their log-probabilities [B, V] in nats, as they were rounded."""
        for number, key in enumerate(keys):
            if key in self._drawn:
                self._drawn[key] = log_softmax(logits[number : number + 1])
        return super().draw(keys, logits)
