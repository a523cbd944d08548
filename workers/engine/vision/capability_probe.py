"""Whether a model sees and hears, found out by showing it something when it is loaded. Engine thread only."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, Media, MediaKind, Message
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.media.films import FRAMES_PER_S, Film
from mlx_server.workers.engine.media.media import DecodedMedia, MediaDecoder
from mlx_server.workers.engine.prompt.prompts import PromptMaker
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.engine.vision.inputs import InputReader
from mlx_server.workers.engine.vision.prefill import begin
from mlx_server.workers.engine.vision.reference_trace import difference, trace_alone
from mlx_server.workers.engine.vision.trial import deviation
from mlx_server.workers.engine.vision.trial_features import same
from mlx_server.workers.engine.vision.trial_prompts import chirp, made, trial_sequences
from mlx_server.workers.errors import ModelLoadError, one_line

HEARD_S = 30.0
"""Encoders like Whisper's hear no more, and their processors cut off the rest without a word."""


class Senses:
    """A model's processor, and what makes prompts for it."""

    def __init__(self, model: Any, prompts: PromptMaker, files: MediaDecoder, inputs: InputReader) -> None:
        self._model = model
        self._prompts = prompts
        self._files = files
        self._inputs = inputs

    def sequences(self) -> tuple[list[Sequence], list[str]]:
        """What to try the model with, and notes on what it turned out not to take, which is refused from now on."""
        sequences, blind = trial_sequences(self._prompts, self._files)
        notes = self._without("image", f"takes no pictures: {blind}") if blind else []
        if "audio" in self._inputs.kinds:
            heard, deaf = self._hear(len(sequences))
            sequences += heard
            notes += self._without("audio", f"takes no sounds: {deaf}") if deaf else []
        if "video" in self._inputs.kinds:
            notes += self._without("video", f"takes no films: {why}") if (why := self._watch(len(sequences))) else []
        return sequences, notes

    def _watch(self, number: int) -> str:
        """Why it takes no films. They are no part of what else is tried, and must not change how pictures are read."""
        try:
            one, other = (made(self._prompts, number, self._said(film(turn))) for turn in (0, 2))
            then = (*self._said(film(0)).messages, Message("assistant", "A film."), Message("user", "And then?"))
            sequences = [one, made(self._prompts, number + 1, ChatPrompt(then))]
        except InvalidRequest as error:
            return one_line(error)
        if reason := deaf(self._model, one, other):
            return reason
        alone = [trace_alone(self._model, sequence) for sequence in sequences]
        return deviation(alone, self._model, sequences, rows=2, tower=None, prefixes=PrefixStore(1 << 30))

    def _without(self, kind: MediaKind, note: str) -> list[str]:
        if kind not in self._inputs.kinds:
            return []
        self._inputs.kinds = tuple(one for one in self._inputs.kinds if one != kind)
        return [note]

    def _hear(self, number: int) -> tuple[list[Sequence], str]:
        """A sound, and what goes on from there, with a second one if the model takes that; or why it takes none."""
        try:
            low, high = (self._said(self._sound(1.0, hertz)) for hertz in (220.0, 880.0))
            first, other = made(self._prompts, number, low), made(self._prompts, number, high)
            if reason := deaf(self._model, first, other):
                return [], reason
            self._inputs.longest_s = HEARD_S if self._is_cut() else None
            more = self._more(number + 1, low)
        except (InvalidRequest, OSError) as error:
            return [], one_line(error)
        return [first, more], ""

    def _more(self, number: int, before: ChatPrompt) -> Sequence:
        """A conversation that goes on from there, with a longer sound if there may be a second one.

        Processors pad the shorter to the length of the longer, and some models (mlx-vlm up to 0.7.10: Gemma 4) take
        what the padding becomes for the beginning of the second. They are given equally long ones.
        """
        then, longer = (*before.messages, Message("assistant", "A tone.")), self._said(self._sound(1.4, 880.0))
        try:
            both = made(self._prompts, number, ChatPrompt((*then, *longer.messages)))
        except InvalidRequest:
            return made(self._prompts, number, ChatPrompt((*then, Message("user", "And then?"))))
        if same([self._last_sound(made(self._prompts, number, longer))], [self._last_sound(both)]):
            return both
        self._inputs.evens_sounds = True
        return made(self._prompts, number, ChatPrompt((*then, *longer.messages)))

    def _last_sound(self, sequence: Sequence) -> mx.array:
        """What the model makes of it, [tokens, D]; nothing where its place is not known."""
        assert sequence.media is not None
        place = sequence.media.places[-1]
        embeddings = begin(self._model, sequence.prompt, sequence.media).embeddings[0]
        return embeddings[place.start : place.end] if sequence.media.told_apart else embeddings[:0]

    def _sound(self, seconds: float, hertz: float) -> Media:
        [sound] = self._files.decode([chirp(seconds, self._inputs.sample_rate, hertz)])
        return sound

    def _said(self, sound: Media) -> ChatPrompt:
        return ChatPrompt((Message("user", "What is this?", media=(sound,)),))

    def _is_cut(self) -> bool:
        """A second more makes no difference."""
        one, more = (
            self._prompts.read(self._said(self._sound(seconds, 220.0))) for seconds in (HEARD_S, HEARD_S + 1.0)
        )
        if one.tokens != more.tokens or one.media is None or more.media is None:
            return False
        return all(is_same(value, more.media.arrays.get(name)) for name, value in one.media.arrays.items())


def film(turn: int) -> DecodedMedia:
    """Four frames of a gradient that turns, beginning with this one."""
    gradient = np.linspace(0, 255, 64, dtype=np.uint8)[None, :].repeat(64, axis=0)
    frames = np.stack([np.rot90(gradient, turn + i) for i in range(4)])[:, None].repeat(3, axis=1)
    content = Film(frames, [0, 1, 2, 3], 4, FRAMES_PER_S)
    return DecodedMedia("video", b"", 0, "messages", content=content, digest=bytes([turn]))


def is_same(value: Any, other: Any) -> bool:
    """Whether two inputs are equal, as far as they are arrays."""
    if isinstance(value, mx.array) and isinstance(other, mx.array):
        return bool(mx.array_equal(value, other))
    return type(value) is type(other)


def deaf(model: Any, sound: Sequence, other: Sequence) -> str:
    """Why sounds are of no use; empty if it makes a difference which one is heard."""
    try:
        traces = trace_alone(model, sound), trace_alone(model, other)
    except ModelLoadError as error:
        return one_line(error)
    return "" if difference(*traces) else "it makes no difference which"
