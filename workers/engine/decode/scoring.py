"""Prompts that an answer contains: echoed, with their tokens' log-probabilities, or both."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlx_server.workers.engine.decode.admission import Admission
from mlx_server.workers.engine.engine import Engine
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.sampling.logprobs import Report, log_softmax, ranks, report
from mlx_server.workers.engine.sequence import Broken, Echoed, Key, Produced, Sequence

CHUNK = 128
"""Tokens scored in a step: each needs logits of the whole vocabulary, in float32."""


class ScoringEngine:
    """Echoes and scores prompts, one chunk of one prompt in a step; another engine writes. Engine thread only."""

    def __init__(
        self,
        model: Any,
        writing: Engine,
        prefixes: PrefixStore | None = None,
        admission: Admission | None = None,
    ) -> None:
        """`prefixes` is the prefix cache of the engine for `writing`: what was scored here is not read again there.
        `admission` is that engine's, and bounds the memory of what is scored."""
        self._model = model
        self._writing = writing
        self._prefixes = prefixes
        self._admission = admission or Admission()
        self._waiting: dict[Key, Sequence] = {}
        self._scoring: _Scoring | None = None

    @property
    def busy(self) -> bool:
        """Whether any prompt is to be scored."""
        return bool(self._waiting)

    def takes(self, sequence: Sequence) -> bool:
        """The answer contains its prompt, or reports on it."""
        return sequence.echo is not None or sequence.scored is not None

    def add(self, sequence: Sequence) -> None:
        """Take in a sequence."""
        self._waiting[sequence.key] = sequence

    def remove(self, key: Key) -> None:
        """Drop a sequence; unknown keys are ignored."""
        self._waiting.pop(key, None)
        if self._scoring is not None and self._scoring.sequence.key == key:
            self._scoring = None

    def step(self) -> list[Produced]:
        """Score one chunk of a prompt."""
        sequence = next(iter(self._waiting.values()))
        try:
            return self._advance(sequence)
        except Exception as error:  # noqa: BLE001 - whatever a model raises ends this sequence only
            self.remove(sequence.key)
            return [Broken(sequence.key, f"{type(error).__name__}: {error}")]

    def close(self) -> None:
        """Release all sequences."""
        self._waiting.clear()
        self._scoring = None

    def _advance(self, sequence: Sequence) -> list[Produced]:
        if self._scoring is None or self._scoring.sequence is not sequence:
            if (refusal := self._begin(sequence)) is not None:
                return [refusal]
            self._scoring = _Scoring(self._model, sequence)
        else:
            self._admission.bound.make_room()
        with self._admission.bound.step():
            done = self._scoring.advance()
        if not done:
            return []
        reports, ranks = tuple(self._scoring.reports), tuple(self._scoring.ranks)
        if self._prefixes is not None:
            self._prefixes.keep(sequence, self._scoring.cache, len(reports))
        self._scoring = None
        del self._waiting[sequence.key]
        if sequence.max_tokens:
            self._writing.add(sequence)
        return [Echoed(sequence.key, reports, None if sequence.max_tokens else "length", ranks)]

    def _begin(self, sequence: Sequence) -> Broken | None:
        """Make room for a prompt that is scored, or drop it if there can't be enough."""
        if sequence.scored is None:
            return None
        refusal = self._admission.refusal(sequence)
        if refusal is None:
            self._admission.admits(sequence, ())
        else:
            self.remove(sequence.key)
        return refusal


class _Scoring:
    """A prompt that is being scored. Its first token has nothing before it, so no report."""

    def __init__(self, model: Any, sequence: Sequence) -> None:
        self.sequence = sequence
        self.reports: list[Report] = []
        self.ranks: list[int] = []
        self._model = model
        self.cache = make_prompt_cache(model)

    def advance(self) -> bool:
        """Score one chunk; True once nothing is left."""
        prompt, most = self.sequence.prompt, self.sequence.scored
        done = len(self.reports)
        targets = prompt[done + 1 : done + 1 + CHUNK]
        if most is None or not targets:
            return True
        logits = self._model(mx.array([prompt[done : done + len(targets)]]), cache=self.cache)[0].astype(mx.float32)
        self.reports += report(log_softmax(logits), targets, most)
        self.ranks += ranks(logits, targets)
        mx.eval([layer.state for layer in self.cache])
        mx.clear_cache()
        return len(self.reports) == len(prompt) - 1
