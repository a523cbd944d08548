"""Prefill of prompts with pictures: in turns, one chunk of one prompt at a time."""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mlx_server.workers.engine.decode.prefill import leads
from mlx_server.workers.engine.decode.prefill_budget import PrefillBudget
from mlx_server.workers.engine.decode.replayable import describe
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.sequence import Broken, Key, Sequence
from mlx_server.workers.engine.vision.features import RememberingTower
from mlx_server.workers.engine.vision.prefill import CannotContinue, Prefill, begin, look_at
from mlx_server.workers.log_lines import about

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Reading:
    """A prompt on its way; `prefill` is None before its beginning, and `unseen` are the pictures that are looked at one
    by one before that."""

    sequence: Sequence
    prefill: Prefill | None
    unseen: list[int] | None = None
    encoded: int = 0
    failed: bool = False


@dataclass(frozen=True, slots=True)
class PrefilledPrompt:
    """A prompt that has been read, and the logits [1, V] of its next token."""

    sequence: Sequence
    prefill: Prefill
    logits: mx.array


class PromptReader:
    """A short prompt is not behind a long one, since they take turns. Engine thread only.

    One that can't be read is tried once more, and breaks without the others: it has had a cache of its own.
    """

    def __init__(self, model: Any, pace: PrefillBudget, tower: RememberingTower | None, prefixes: PrefixStore) -> None:
        """`tower` is the memory before the model's encoder, if there is one."""
        self._model = model
        self._pace = pace
        self._tower = tower
        self._prefixes = prefixes
        self._readings: dict[Key, _Reading] = {}

    @property
    def busy(self) -> bool:
        """Whether any prompt is being read."""
        return bool(self._readings)

    def add(self, sequence: Sequence, prefill: Prefill | None) -> None:
        """Take in a prompt, at its start or with what another choice has read of it."""
        self._readings[sequence.key] = _Reading(sequence, prefill)

    def remove(self, key: Key) -> None:
        """Drop a prompt and cache what was read of it; unknown keys are ignored."""
        reading = self._readings.pop(key, None)
        if reading is not None and reading.prefill is not None:
            sequence = reading.sequence
            self._prefixes.keep(sequence, reading.prefill.cache, len(sequence.context) - reading.prefill.left)

    def clear(self) -> None:
        """Drop all prompts."""
        self._readings.clear()

    def step(self, *, running: int, since: float) -> PrefilledPrompt | Broken | None:
        """One chunk of the next prompt in turn; the prompt, once nothing is left of it. `running` rows have waited for
        their next tokens `since` then, on the monotonic clock."""
        key = next(iter(self._readings))
        self._readings[key] = reading = self._readings.pop(key)
        before = reading.prefill.left if reading.prefill is not None else 0
        try:
            read = self._advance(reading, running)
        except Exception as error:  # a prompt that can't be read is nobody else's fault
            log.error("a prompt could not be read", exc_info=error, extra=about([key]))
            reading.prefill, reading.unseen = None, []
            if reading.failed:
                return Broken(key, describe(error))
            reading.failed = True
            return None
        if reading.prefill is not None:
            sequence = reading.sequence
            sequence.read = len(sequence.context) - reading.prefill.left
        if before:  # pictures take their own time
            left = 0 if read is not None or reading.prefill is None else reading.prefill.left
            self._pace.read(before - left, time.monotonic() - since, beside=running > 0)
        if read is not None:
            del self._readings[key]
        return read

    def _advance(self, reading: _Reading, running: int) -> PrefilledPrompt | None:
        sequence = reading.sequence
        if reading.prefill is None and self._look(reading):
            return None
        begins = reading.prefill is None
        reading.prefill = prefill = reading.prefill or self._begin(reading)
        chunk = self._pace.most if begins and self._pace.is_short(prefill.left) else self._chunk(sequence, running)
        # Other choices start from all but the last token; else the rest is read in one pass.
        shared = sequence.prefix if leads(sequence) else None
        if (shared or prefill.left > chunk) and prefill.advance(self._model, chunk) and prefill.left > 1:
            return None
        if shared is not None:
            shared.keep(copy.deepcopy(prefill))
        logits = prefill.finish(self._model)
        mx.eval(logits, [layer.state for layer in prefill.cache])
        return PrefilledPrompt(sequence, prefill, logits)

    def _chunk(self, sequence: Sequence, running: int) -> int:
        """How many tokens of a prompt may be read beside so many rows: more where many prompts wait."""
        pace = self._pace
        if not running:
            return pace.yielding if sequence.yields else pace.most
        return min(pace.most, max(pace.tokens, pace.together(len(self._readings), running)))

    def _look(self, reading: _Reading) -> bool:
        """Have the next picture encoded, all but the last, which the beginning is for; whether there was one.

        Rows decode between pictures, and not only once all have been looked at. Sounds, and pictures beside them, are
        encoded together: nothing is kept of what sounds become.
        """
        sequence, media, tower = reading.sequence, reading.sequence.media, self._tower
        if tower is None or not tower.separately or media is None or media.sounds or not media.told_apart:
            return False
        if reading.unseen is None:
            known = self._prefixes.find(sequence)
            start = known[0] if known else 0
            reading.unseen = [i for i, picture in enumerate(media.places[:-1]) if picture.start >= start]
        if not reading.unseen:
            return False
        tower.counted(0)
        tower.tenant = sequence.tenant
        try:
            look_at(self._model, sequence.context, media, reading.unseen.pop(0))
        except CannotContinue:
            reading.unseen.clear()
        reading.encoded += tower.counted(1)[0]
        return True

    def _begin(self, reading: _Reading) -> Prefill:
        """A prompt's beginning, with as much of it as is known; how much that is, is noted for its first start."""
        sequence = reading.sequence
        known = self._prefixes.find(sequence)
        if self._tower is not None:
            self._tower.counted(0)
            self._tower.tenant = sequence.tenant
        try:
            prefill = begin(self._model, sequence.context, sequence.media, known)
        except CannotContinue:
            known, prefill = None, begin(self._model, sequence.context, sequence.media)
        if not sequence.emitted:
            sequence.cached_tokens = known[0] if known else 0
            self._count_pictures(reading)
        return prefill

    def _count_pictures(self, reading: _Reading) -> None:
        sequence = reading.sequence
        if sequence.media is None:
            return
        media = sequence.media
        unread = [place for place in media.places if place.end > sequence.cached_tokens]
        heard = sum(place.kind == "audio" for place in unread) if media.told_apart else media.sounds
        seen = (len(unread) if media.told_apart else media.count) - heard
        computed = self._tower.counted(seen)[0] if self._tower else seen
        sequence.encoded_media = min(media.count, reading.encoded + computed + heard)
        sequence.cached_media = media.count - sequence.encoded_media
