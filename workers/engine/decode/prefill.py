"""Prefill: prompts are read chunk by chunk, in turns, short ones of similar length together."""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlx_server.workers.engine.decode.prefill_budget import PrefillBudget
from mlx_server.workers.engine.decode.prefill_policy import Waiting, next_turn
from mlx_server.workers.engine.decode.replayable import describe
from mlx_server.workers.engine.kvcache.layers import extracted, merged
from mlx_server.workers.engine.kvcache.prefix_index import CHECKPOINTS, Beginning, alike
from mlx_server.workers.engine.kvcache.prefix_store import LEAST, PrefixStore, beginning_of
from mlx_server.workers.engine.kvcache.shared_prefix import SharedPrefix
from mlx_server.workers.engine.passes.joined import Call, JoinedModel, suited
from mlx_server.workers.engine.passes.prompts import read_into, read_together
from mlx_server.workers.engine.sequence import Broken, Key, Sequence
from mlx_server.workers.log_lines import about

log = logging.getLogger(__name__)

WORTH_KEEPING = 64
"""The fewest tokens of a prompt that are cached before its answer has ended."""


@dataclass(eq=False, slots=True)
class Reading:
    """A prompt during prefill. `tokens` are all that are read here; the cache holds `done` of them."""

    sequence: Sequence
    tokens: list[int]
    cache: list[Any] | None = None
    done: int = 0
    stops: tuple[int, ...] = ()
    passed: int = 0
    failed: bool = False
    begun: bool = False
    """A chunk of it has been read here."""
    looked: int = -1
    """The prefix cache's version at the last lookup."""
    beginning: Beginning | None = None
    """What others may share; None if nothing."""
    after: Reading | None = None
    """Another prompt, whose first `shared` tokens this one begins with: they are read once."""
    shared: int = 0
    awaited: frozenset[int] = frozenset()
    """Lengths of this prompt that others begin with, and wait for."""

    @property
    def left(self) -> int:
        """Tokens still to be read."""
        return len(self.tokens) - self.done

    @property
    def next(self) -> int:
        """Tokens still to be read until somebody has what they wait for."""
        return min((end for end in self.awaited if end > self.done), default=len(self.tokens)) - self.done


@dataclass(frozen=True, slots=True)
class Read:
    """Prompts that were read except for their last tokens, and their cache: one row's own, or a batch's."""

    sequences: list[Sequence]
    cache: list[Any]


class Chosen(NamedTuple):
    """The prompts that a step reads, and the most tokens of each."""

    readings: list[Reading]
    tokens: int


class Prefiller:
    """Reads prompts for rows that will decode. Engine thread only.

    A prompt that fails is tried once more, alone and with a new cache, and then breaks.
    """

    def __init__(
        self,
        model: Any,
        *,
        rows: int,
        joint: bool,
        pace: PrefillBudget,
        prefixes: PrefixStore,
        marks: frozenset[int],
        context_length: int | None = None,
        joined: JoinedModel | None = None,
    ) -> None:
        """`marks` are the tokens that end messages; `joint`: prompts may be read together. A model may have nothing
        for positions from `context_length` on, so that padding must not stand there. With a `joined` model chunks are
        read along with running rows' next tokens."""
        self._model = model
        self._joined = joined
        self._turn: Chosen | None = None
        self._goes_along = False
        self._rows = rows if joint else 1
        self._pace = pace
        self._prefixes = prefixes
        self._marks = marks
        self._context_length = context_length
        self._can_cut = can_cut(self._empty())
        self.readings: dict[Key, Reading] = {}
        """The prompts that are being read."""

    def add(self, sequence: Sequence, cache: list[Any] | None) -> None:
        """Take in a prompt; with a `cache` if another choice has read all but its last token."""
        reading = Reading(sequence, sequence.context[:-1])
        if cache is not None:
            reading.cache, reading.done = cache, len(reading.tokens)
        elif self._can_cut and self._prefixes.keeps and sequence.use_cache:
            self._follow(reading)
        self.readings[sequence.key] = reading

    def remove(self, key: Key) -> None:
        """Drop a prompt and cache what was read of it; unknown keys are ignored."""
        reading = self.readings.pop(key, None)
        if reading is not None and reading.cache is not None and reading.left:
            self._prefixes.keep(reading.sequence, reading.cache, reading.done)

    def clear(self) -> None:
        """Drop all prompts."""
        self.readings.clear()
        if self._joined is not None:
            self._joined.take_back()

    def begin(self, *, running: int) -> bool:
        """Choose what this step reads, beside so many `running` rows; whether their next tokens take it along."""
        for reading in self.readings.values():
            self._look_up(reading)
        self._turn = turn = self._choose(running)
        alone = turn is not None and len(turn.readings) == 1 and not turn.readings[0].failed
        self._goes_along = bool(self._joined is not None and running and alone)
        if self._joined is not None and turn is not None and self._goes_along:
            self._joined.along(self._call(turn.readings[0], turn.tokens))
        return self._goes_along

    def step(self, *, running: int, since: float) -> list[Read | Broken]:
        """Read what was chosen: the prompts that it finished, and those that broke. `running` rows have waited for
        their next tokens since the time `since` of the monotonic clock."""
        if self._turn is None:
            return self._ready()
        chosen, tokens = self._turn
        before = sum(one.left for one in chosen)
        try:
            read = self._advance(chosen, tokens)
            for one in chosen:
                one.sequence.read = one.done
        except Exception as error:  # prompts that can't be read are nobody else's fault
            whose = about(one.sequence.key for one in chosen)
            log.error("%d prompts could not be read", len(chosen), exc_info=error, extra=whose)
            return self._start_over(chosen, error)
        for one in chosen if read else ():
            del self.readings[one.sequence.key]
        self._pace.read(before - sum(one.left for one in chosen), time.monotonic() - since, beside=running > 0)
        return [*read, *self._ready()]

    def _follow(self, reading: Reading) -> None:
        """Have a prompt wait for the longest beginning that it shares with one that is read already."""
        self._look_up(reading)
        reading.beginning = beginning_of(reading.sequence)
        for other in self.readings.values():
            if other.beginning is not None and other.sequence.yields <= reading.sequence.yields:
                most = min(len(reading.tokens), len(other.tokens))
                shared = alike(other.beginning, reading.beginning, most)
                if shared >= max(reading.shared, max(reading.done, other.done) + WORTH_KEEPING):
                    reading.after, reading.shared = other, shared
        if reading.after is not None:
            reading.after.awaited |= {reading.shared}
            reading.after.stops = self._stops(reading.after)

    def _waits(self, reading: Reading) -> bool:
        """Whether another prompt's chunks bring what this one would read."""
        other = reading.after
        if other is None or self.readings.get(other.sequence.key) is not other or other.failed or reading.failed:
            return False
        return max(reading.done, other.done) < reading.shared

    def _choose(self, running: int) -> Chosen | None:
        """What is read next; None if nothing is left to read."""
        beside = running > 0
        waiting = [reading for reading in self.readings.values() if reading.left and not self._waits(reading)]
        if not waiting:
            return None
        chunk, together = self._pace.most, self._pace.most * self._rows
        if beside:
            chunk, together = self._pace.tokens, self._pace.together(len(waiting), running)
            chunk = chunk if self._joined is None else suited(chunk, running)
        elif all(one.sequence.yields for one in waiting):
            chunk = together = self._pace.yielding
        turn = next_turn(
            [
                Waiting(
                    one.next,
                    one.passed,
                    one.failed or bool(one.stops),
                    beside and not one.begun and self._pace.is_short(one.left),
                )
                for one in waiting
            ],
            chunk=chunk,
            together=together,
        )
        chosen = self._within_context([waiting[number] for number in turn.numbers[: self._rows]])
        for one in waiting:
            one.passed += 1
        for one in chosen:
            one.passed = 0
            self.readings[one.sequence.key] = self.readings.pop(one.sequence.key)
        return Chosen(chosen, turn.tokens)

    def _within_context(self, chosen: list[Reading]) -> list[Reading]:
        """Those that can be padded to the longest of them; at least one."""
        if self._context_length is None:
            return chosen
        longest = max(one.left for one in chosen)
        return [one for one in chosen if one.done + longest <= self._context_length] or chosen[:1]

    def _empty(self) -> list[Any]:
        cache: list[Any] = make_prompt_cache(self._model)
        return cache

    def _look_up(self, reading: Reading) -> None:
        """Start from a cached prefix, which may be longer than at the last lookup."""
        if reading.failed or reading.looked == self._prefixes.version or not reading.left:
            return
        if reading.looked < 0:
            self._tell_divergence(reading.sequence)
        least = LEAST if reading.cache is None else reading.done + LEAST
        found = self._prefixes.find(reading.sequence, least)
        reading.looked = self._prefixes.version
        if found is not None:
            reading.done, reading.cache = found
            reading.sequence.found(reading.done)
        reading.stops = self._stops(reading)

    def _tell_divergence(self, sequence: Sequence) -> None:
        """Log why a conversation's prompt has to be read again."""
        diverged = self._prefixes.diverged(sequence)
        if diverged is not None:
            same, known = diverged
            ended = sum(token in self._marks for token in sequence.prompt[:same])
            whose = about([sequence.key])
            log.info(
                "a conversation differs at token %d of %d that are kept, in message %d", same, known, ended, extra=whose
            )

    def _stops(self, reading: Reading) -> tuple[int, ...]:
        """Lengths at which what has been read is kept."""
        return tuple(sorted(stop for stop in {*self._checkpoints(reading), *reading.awaited} if stop > reading.done))

    def _checkpoints(self, reading: Reading) -> list[int]:
        """Lengths at which prefill stops for a checkpoint, where a cache can't be cut short later."""
        if self._can_cut or not (self._prefixes.keeps and reading.sequence.use_cache) or reading.left < WORTH_KEEPING:
            return []
        marks = {mark for mark in reading.sequence.marks if LEAST <= mark < len(reading.tokens)}
        return sorted({*ends_of_messages(reading.tokens, self._marks), *marks})

    def _advance(self, chosen: list[Reading], tokens: int) -> list[Read | Broken]:
        if len(chosen) == 1:
            self._read_alone(chosen[0], tokens)
            return []
        caches = [one.cache or self._empty() for one in chosen]
        cache = merged(caches)
        read_together(self._model, [one.tokens[one.done :] for one in chosen], cache)
        for number, one in enumerate(chosen):
            one.done = len(one.tokens)
            if len(one.tokens) >= WORTH_KEEPING or leads(one.sequence):
                self._finished(one, extracted(cache, number))
        return [Read([one.sequence for one in chosen], cache)]

    def _call(self, reading: Reading, tokens: int) -> Call:
        """The call that reads up to so many tokens more of a prompt."""
        end = min(reading.done + tokens, len(reading.tokens), *reading.stops[:1])
        reading.cache = reading.cache or self._empty()
        return Call(mx.array([reading.tokens[reading.done : end]]), reading.cache)

    def _read_alone(self, reading: Reading, tokens: int) -> None:
        call = self._call(reading, tokens)
        if self._joined is None or not self._goes_along or self._joined.take_back():
            read_into(self._model, call.ids, call.cache)
        mx.eval([layer.state for layer in call.cache])
        mx.clear_cache()
        end = reading.done + call.ids.shape[1]
        reading.done, reading.begun = end, True
        if reading.stops[:1] == (end,):
            reading.stops = reading.stops[1:]
            self._keep(reading, call.cache)

    def _ready(self) -> list[Read | Broken]:
        """Prompts with nothing left to read, each by itself."""
        ready: list[Read | Broken] = []
        for key, reading in list(self.readings.items()):
            if not reading.left:
                del self.readings[key]
                reading.cache = reading.cache or self._empty()
                self._finished(reading, reading.cache)
                ready.append(Read([reading.sequence], reading.cache))
        return ready

    def _finished(self, reading: Reading, cache: list[Any]) -> None:
        """Cache what other sequences may start from."""
        sequence = reading.sequence
        if leads(sequence) and sequence.prefix is not None:
            mx.eval([layer.state for layer in cache])
            sequence.prefix.keep(forked(cache))
        if reading.done >= WORTH_KEEPING and reading.done > sequence.cached_tokens:
            self._keep(reading, cache)

    def _keep(self, reading: Reading, cache: list[Any]) -> None:
        self._prefixes.keep(reading.sequence, forked(cache), reading.done)
        reading.looked = self._prefixes.version

    def _start_over(self, chosen: list[Reading], error: Exception) -> list[Read | Broken]:
        broken: list[Read | Broken] = []
        for reading in chosen:
            if reading.failed:
                del self.readings[reading.sequence.key]
                broken.append(Broken(reading.sequence.key, describe(error)))
            reading.cache, reading.done, reading.stops, reading.failed = None, 0, (), True
            reading.begun = False
        return broken


def can_cut(cache: list[Any]) -> bool:
    """Whether a prompt's cache can be cut to any of its prefixes, however long it is."""
    return all(not hasattr(layer, "max_size") and layer.is_trimmable() for layer in cache)


def leads(sequence: Sequence) -> bool:
    """Whether other choices of its prompt wait for this sequence's cache."""
    prefix: SharedPrefix | None = sequence.prefix
    return prefix is not None and prefix.leader == sequence.key and prefix.cache is None


def forked(cache: list[Any]) -> list[Any]:
    """A copy of a cache whose arrays are shared until they are written."""
    return copy.deepcopy(cache)


def ends_of_messages(tokens: list[int], marks: frozenset[int]) -> list[int]:
    """Lengths of a prompt's prefixes that end with a message: the first one, and the last CHECKPOINTS."""
    ends = [i + 1 for i, (token, after) in enumerate(pairwise(tokens)) if token in marks and after not in marks]
    ends = [end for end in ends if end >= LEAST]
    return sorted({*ends[:1], *ends[-CHECKPOINTS:]})
