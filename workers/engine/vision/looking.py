"""Pictures of prompts that wait: encoded beside decoding, as many in one pass as time allows, before these are read."""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_vlm.generate.ar import _is_sequence_aligned_prompt_kwarg as is_aligned

from mlx_server.workers.engine.decode.prefill_budget import PrefillBudget
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.engine.vision.features import RememberingTower
from mlx_server.workers.engine.vision.per_image import ARRAYS, as_one, of_pictures
from mlx_server.workers.engine.vision.prefill import POSITION_STATE, CannotContinue, restore


@dataclass(eq=False, slots=True)
class Viewing:
    """A prompt's pictures: the numbers of those that are still to be looked at, and how many had to be encoded."""

    sequence: Sequence
    unseen: list[int]
    encoded: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """One picture: the ids of its tokens, with one before and one after them, and its arrays."""

    viewing: Viewing
    tokens: int
    ids: list[int]
    arrays: dict[str, Any]

    @property
    def form(self) -> Hashable:
        """What pictures have in common that can be looked at in one pass."""
        return self.viewing.sequence.tenant, *((name, form_of(value)) for name, value in sorted(self.arrays.items()))


class Looker:
    """Has pictures encoded for a memory before the encoder to keep. Engine thread only."""

    def __init__(self, model: Any, tower: RememberingTower | None, pace: PrefillBudget) -> None:
        """`tower` is the memory, if there is one; `pace` says how many tokens of pictures are encoded at a time."""
        self._model = model
        self.tower = tower
        self._pace = pace

    def viewing(self, sequence: Sequence, start: int) -> Viewing:
        """What there is to see in a prompt from its token `start` on. Sounds, and pictures beside them, are encoded
        together when the prompt is begun: nothing is kept of what sounds become."""
        media, tower = sequence.media, self.tower
        if tower is None or not tower.separately or media is None or media.sounds or not media.told_apart:
            return Viewing(sequence, [])
        numbers = [number for number, place in enumerate(media.places) if place.start >= start]
        # Where each picture takes a pass, the last one's is that of the beginning.
        return Viewing(sequence, numbers if tower.together else numbers[:-1])

    def look(self, viewings: list[Viewing], *, running: int) -> bool:
        """Have the next pictures encoded, as many as there is time for beside so many `running` rows; whether there
        was any. One by itself is left to the prompt's beginning."""
        if self.tower is not None and self.tower.together and sum(len(one.unseen) for one in viewings) == 1:
            for one in viewings:
                one.unseen.clear()
        if self.tower is None or not (looks := self._next(viewings, self.tower.together, running)):
            return False
        began = time.monotonic()
        self._encode(self.tower, looks)
        self._pace.read(sum(look.tokens for look in looks), time.monotonic() - began, beside=False)
        return True

    def _next(self, viewings: list[Viewing], together: bool, running: int) -> list[Look]:
        """The next picture, with those behind it that can be looked at in the same pass."""
        looks: list[Look] = []
        left = self._pace.tokens if running else self._pace.most
        for viewing in viewings:
            while viewing.unseen:
                try:
                    look = look_of(viewing, viewing.unseen[0])
                except CannotContinue:
                    viewing.unseen.clear()
                    break
                left -= look.tokens
                if looks and not (together and left >= 0 and look.form == looks[0].form):
                    return looks
                viewing.unseen.pop(0)
                looks.append(look)
        return looks

    def _encode(self, tower: RememberingTower, looks: list[Look]) -> None:
        tower.counted(0)
        tower.tenant = looks[0].viewing.sequence.tenant
        ids = mx.array([[token for look in looks for token in look.ids]])
        arrays = {name: as_one(tuple(look.arrays[name] for look in looks)) for name in looks[0].arrays}
        restore(self._model.language_model, dict.fromkeys(POSITION_STATE))
        pixels = arrays.pop("pixel_values", None)
        mx.eval(self._model.get_input_embeddings(ids, pixels, mask=mx.ones_like(ids), **arrays).inputs_embeds)
        for look, computed in zip(looks, tower.computed(len(looks)), strict=True):
            look.viewing.encoded += computed


def form_of(value: Any) -> Hashable:
    """What arguments for several pictures have in common that can be put together."""
    if isinstance(value, ARRAYS):
        return str(value.dtype), value.shape[1:]
    return type(value).__name__ if isinstance(value, list | tuple) else value


def look_of(viewing: Viewing, number: int) -> Look:
    """One of a prompt's pictures. Raises CannotContinue where pictures can't be told apart."""
    tokens, media = viewing.sequence.context, viewing.sequence.media
    assert media is not None
    arrays = {k: v for k, v in media.arrays.items() if not (isinstance(v, mx.array) and is_aligned(k, v, len(tokens)))}
    own = of_pictures(arrays, media.count, number, number + 1)
    if own is None:
        raise CannotContinue
    place = media.places[number]
    # Some models count pictures by the token before them.
    return Look(viewing, place.end - place.start, tokens[max(0, place.start - 1) : place.end + 1], own)
