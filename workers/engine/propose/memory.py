"""What a sequence's guesses are made of: its own tokens, its client's prediction, and the client's earlier answers."""

from __future__ import annotations

from collections import deque

from mlx_server.workers.engine.propose.lookup import Lookup
from mlx_server.workers.engine.recent import Recent
from mlx_server.workers.engine.sequence import Sequence

CONVERSATIONS = 64
"""So many are remembered, each with its ANSWERS latest answers."""

ANSWERS = 4
LONGEST = 4096
"""Tokens of an answer that are remembered."""


class Memory:
    """The latest answers of each client and conversation. Engine thread only."""

    def __init__(self) -> None:
        self._answers = Recent[tuple[str, str], deque[list[int]]](CONVERSATIONS)

    def lookup(self, sequence: Sequence) -> Lookup:
        """What a sequence that joins a batch may repeat."""
        earlier = [token for answer in self._of(sequence) for token in answer] if sequence.use_cache else []
        return Lookup(earlier, [] if sequence.emitted else sequence.predicted, sequence.context)

    def ended(self, sequence: Sequence) -> None:
        """Remember the answer of a sequence that leaves its batch: an agent may write the same file again."""
        if sequence.use_cache and sequence.emitted:
            self._of(sequence).append(sequence.emitted[:LONGEST])

    def _of(self, sequence: Sequence) -> deque[list[int]]:
        return self._answers.get((sequence.tenant, sequence.conversation), lambda: deque(maxlen=ANSWERS))
