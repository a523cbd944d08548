"""Prefill of prompts with pictures: in turns, chunk by chunk, short ones of similar length together."""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mlx_server.workers.engine.decode.prefill import leads
from mlx_server.workers.engine.decode.prefill_budget import PrefillBudget
from mlx_server.workers.engine.decode.prefill_policy import Waiting, next_turn
from mlx_server.workers.engine.decode.replayable import describe
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.sequence import Broken, Key, Sequence
from mlx_server.workers.engine.vision.looking import Looker, Viewing
from mlx_server.workers.engine.vision.prefill import CannotContinue, Prefill, begin
from mlx_server.workers.engine.vision.together import Joinable, finish_together
from mlx_server.workers.log_lines import about

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Reading:
    """A prompt on its way; `prefill` is None before its beginning, and `viewing` before its pictures are looked for."""

    sequence: Sequence
    prefill: Prefill | None
    viewing: Viewing | None = None
    passed: int = 0
    failed: bool = False
    begun: bool = False
    """A chunk of it has been read here."""

    @property
    def is_alone(self) -> bool:
        """It can't be read together with others now."""
        return self.failed or leads(self.sequence) or (self.prefill is not None and not self.prefill.untouched)

    @property
    def is_seen(self) -> bool:
        """None of its pictures is known to be still to be looked at."""
        if self.prefill is None and self.viewing is None:
            return self.sequence.media is None
        return self.viewing is None or not self.viewing.unseen

    @property
    def left(self) -> int:
        """Tokens still to be read."""
        return len(self.sequence.context) if self.prefill is None else self.prefill.left


@dataclass(frozen=True, slots=True)
class PrefilledPrompts:
    """Prompts that have been read together, their cache (one row's own, or a batch's), the logits [B, V] of their next
    tokens, and how far their positions are from their tokens' numbers, an integer [B, 1], or None."""

    sequences: list[Sequence]
    cache: list[Any]
    logits: mx.array
    rope_deltas: mx.array | None


class PromptReader:
    """Short prompts come first, those of similar length together. Engine thread only.

    Pictures of all prompts are looked at before any is read, but after a step that only looked what has none left is
    read; beside running rows a step does one or the other.
    One that can't be read is tried once more, by itself, and breaks without the others: it has had a cache of its own.
    """

    def __init__(
        self,
        model: Any,
        pace: PrefillBudget,
        looker: Looker,
        prefixes: PrefixStore,
        rows: int,
        joinable: Joinable,
    ) -> None:
        """`looker` has pictures encoded before a prompt is begun; up to `rows` prompts are read together."""
        self._model = model
        self._pace = pace
        self._looker = looker
        self._tower = looker.tower
        self._prefixes = prefixes
        self._rows = rows
        self._joinable = joinable
        self._readings: dict[Key, _Reading] = {}
        self._only_looked = False
        """The latest step read nothing, since there were pictures to be looked at."""

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

    def step(self, *, running: int, since: float) -> list[PrefilledPrompts | Broken]:
        """One chunk of the next prompt in turn, or all of several; those of which nothing is left. `running` rows have
        waited for their next tokens `since` then, on the monotonic clock."""
        chosen, tokens = self._choose(running)
        try:
            return self._advance(chosen, tokens, running, since)
        except Exception as error:  # prompts that can't be read are nobody else's fault
            whose = about(one.sequence.key for one in chosen)
            log.error("%d prompts could not be read", len(chosen), exc_info=error, extra=whose)
            return self._start_over(chosen, error)

    def _choose(self, running: int) -> tuple[list[_Reading], int]:
        """What is read next, and how many tokens of a prompt at most: more where many prompts wait."""
        pace, waiting = self._pace, list(self._readings.values())
        able = [one for one in waiting if one.is_seen] if self._only_looked else []
        able = able or waiting
        chunk, together = pace.most, pace.most * self._rows
        if running:
            together = pace.together(len(waiting), running)
            chunk = min(pace.most, max(pace.tokens, together))
        elif all(one.sequence.yields for one in waiting):
            chunk = together = pace.yielding
        turn = next_turn(
            [
                Waiting(one.left, one.passed, one.is_alone, running > 0 and not one.begun and pace.is_short(one.left))
                for one in able
            ],
            chunk=chunk,
            together=together,
        )
        chosen = [able[number] for number in turn.numbers[: self._rows]]
        for one in waiting:
            one.passed += 1
        return chosen, chunk

    def _advance(
        self, chosen: list[_Reading], tokens: int, running: int, since: float
    ) -> list[PrefilledPrompts | Broken]:
        began = time.monotonic()
        reads_now = self._only_looked and running > 0 and chosen[0].is_seen
        looked = False if reads_now else self._look(chosen, running)
        chosen = [one for one in chosen if one.prefill is not None or not self._viewing(one).unseen]
        self._only_looked = looked and (running > 0 or not chosen)
        if self._only_looked or not chosen:
            return []
        for one in chosen:
            one.prefill = one.prefill or self._begin(one)
        since += time.monotonic() - began  # pictures take their own time
        chosen = self._alike(chosen)
        for one in chosen:
            one.passed = 0
            self._readings[one.sequence.key] = self._readings.pop(one.sequence.key)
        before = sum(one.left for one in chosen)
        read = self._finish(chosen) if len(chosen) > 1 else self._read_alone(chosen[0], tokens)
        left = 0 if read else sum(one.left for one in chosen)
        self._pace.read(before - left, time.monotonic() - since, beside=running > 0)
        for one in chosen:
            one.sequence.read = len(one.sequence.context) - (0 if read else one.left)
            if read:
                del self._readings[one.sequence.key]
        return [*read]

    def _look(self, chosen: list[_Reading], running: int) -> bool:
        """Look at the next pictures of prompts that are not begun, first of these; whether there were any."""
        # One that has failed is tried again without pictures of others, which may be why.
        others = () if chosen[0].failed else self._readings.values()
        ahead = [one for one in (*chosen, *others) if one.prefill is None]
        return self._looker.look([self._viewing(one) for one in dict.fromkeys(ahead)], running=running)

    def _alike(self, chosen: list[_Reading]) -> list[_Reading]:
        """Those that are read in one pass, the first of them by itself if need be."""
        kinds = [self._joinable.kind(one.prefill) if one.prefill is not None else None for one in chosen]
        if kinds[0] is None:
            return chosen[:1]
        return [one for one, kind in zip(chosen, kinds, strict=True) if kind == kinds[0]]

    def _finish(self, chosen: list[_Reading]) -> list[PrefilledPrompts]:
        prefills = [one.prefill for one in chosen if one.prefill is not None]
        cache, logits = finish_together(self._model, prefills)
        mx.eval(logits, [layer.state for layer in cache])
        self._joinable.joined(prefills[0])
        deltas = [own for one in prefills if (own := one.rope_deltas(self._model)) is not None]
        sequences = [one.sequence for one in chosen]
        return [PrefilledPrompts(sequences, cache, logits, mx.concatenate(deltas) if deltas else None)]

    def _read_alone(self, reading: _Reading, chunk: int) -> list[PrefilledPrompts]:
        """Read up to so many tokens of a prompt, or all of a short one."""
        sequence, prefill = reading.sequence, reading.prefill
        assert prefill is not None
        chunk = self._pace.most if not reading.begun and self._pace.is_short(prefill.left) else chunk
        reading.begun = True
        # Other choices start from all but the last token; else the rest is read in one pass.
        shared = sequence.prefix if leads(sequence) else None
        if (shared or prefill.left > chunk) and prefill.advance(self._model, chunk) and prefill.left > 1:
            return []
        if shared is not None:
            shared.keep(copy.deepcopy(prefill))
        logits = prefill.finish(self._model)
        mx.eval(logits, [layer.state for layer in prefill.cache])
        return [PrefilledPrompts([sequence], prefill.cache, logits, prefill.rope_deltas(self._model))]

    def _start_over(self, chosen: list[_Reading], error: Exception) -> list[PrefilledPrompts | Broken]:
        broken: list[PrefilledPrompts | Broken] = []
        for reading in chosen:
            if reading.failed:
                del self._readings[reading.sequence.key]
                broken.append(Broken(reading.sequence.key, describe(error)))
            reading.prefill, reading.viewing = None, Viewing(reading.sequence, [])
            reading.begun, reading.failed = False, True
        return broken

    def _viewing(self, reading: _Reading) -> Viewing:
        """What is still to be seen of a prompt before it is begun."""
        if reading.viewing is None:
            known = self._prefixes.find(reading.sequence)
            reading.viewing = self._looker.viewing(reading.sequence, known[0] if known else 0)
        return reading.viewing

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
        sequence.encoded_media = min(media.count, self._viewing(reading).encoded + computed + heard)
        sequence.cached_media = media.count - sequence.encoded_media
