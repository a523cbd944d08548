"""One model, several classes of sequences: each has its adapter, or none."""

from __future__ import annotations

from mlx_server.workers.engine.engine import Engine
from mlx_server.workers.engine.loading.adapters import AdapterError, Adapters
from mlx_server.workers.engine.sequence import Broken, Key, Produced, Sequence


class ClassedEngine:
    """Gives sequences to an engine, those of one class at a time. Engine thread only.

    The queue keeps classes apart; should two meet, the later one waits here.
    """

    def __init__(self, engine: Engine, adapters: Adapters) -> None:
        self._engine = engine
        self._adapters = adapters
        self._waiting: dict[Key, Sequence] = {}
        self._adapter: str | None = None

    def variant(self, adapter: str | None) -> str:
        """The name of the variant with this adapter. From any thread. Raises AdapterError."""
        return self._adapters.variant(adapter)

    @property
    def busy(self) -> bool:
        """Whether any sequence needs a step."""
        return bool(self._waiting) or self._engine.busy

    def add(self, sequence: Sequence) -> None:
        """Take in a sequence; it joins others of its class with the next step."""
        self._waiting[sequence.key] = sequence

    def remove(self, key: Key) -> None:
        """Drop a sequence, wherever it is; unknown keys are ignored."""
        self._waiting.pop(key, None)
        self._engine.remove(key)

    def step(self) -> list[Produced]:
        """One step of the class whose turn it is."""
        broken = self._admit()
        return broken + self._engine.step() if self._engine.busy else broken

    def close(self) -> None:
        """Release all sequences."""
        self._waiting.clear()
        self._engine.close()

    def _admit(self) -> list[Produced]:
        """Admit sequences of the running class; when none runs, the first one's class is next."""
        broken: list[Produced] = []
        for key, sequence in list(self._waiting.items()):
            if self._engine.busy and sequence.adapter != self._adapter:
                break
            del self._waiting[key]
            try:
                if not self._engine.busy:
                    self._adapters.use(sequence.adapter)
                self._adapter = sequence.adapter
                sequence.variant = self._adapters.worn
                self._engine.add(sequence)
            except AdapterError as error:
                broken.append(Broken(key, str(error), "adapters" if error.requested else None))
        return broken
