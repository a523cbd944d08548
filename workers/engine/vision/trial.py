"""What a model takes, tried when it is loaded: decoding in a batch, remembered pictures, prompts read from the middle.

Each is compared with mlx-vlm's own unbatched loop. The trial also warms the model up. Engine thread only.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_vlm.generate.ar import _is_sequence_aligned_prompt_kwarg as is_aligned
from mlx_vlm.generate.ar import _slice_sequence_aligned_prompt_kwarg as cut_aligned

from mlx_server.workers.engine.decode.probe import LOW_PRECISION_TOLERANCE, TOLERANCE
from mlx_server.workers.engine.decode.replayable import describe
from mlx_server.workers.engine.kvcache.prefix_store import LEAST, PrefixStore
from mlx_server.workers.engine.sequence import Broken, Key, Sequence, Token
from mlx_server.workers.engine.vision.batch import VisionEngine
from mlx_server.workers.engine.vision.features import RememberingTower
from mlx_server.workers.engine.vision.reference_trace import REPORTED, Trace, difference, trace_alone
from mlx_server.workers.engine.vision.together import Joinable
from mlx_server.workers.engine.vision.trial_features import try_remembering
from mlx_server.workers.errors import ModelLoadError

CHUNK = 24
"""Small enough that prompts are read in several chunks."""

NO_HURRY_S = 1e6
"""Between two tokens, so that all that can be read together is."""

log = logging.getLogger(__name__)


class TrialFailed(Exception):  # noqa: N818 - named for what it says
    """Raised when a sequence of a trial broke, or was not computed in the way that was to be tried."""


class StrictEngine(VisionEngine):
    """One that does not go on after a step that raised."""

    def _start_over(self, error: Exception) -> NoReturn:
        raise TrialFailed(describe(error)) from error


@dataclass(frozen=True)
class Tried:
    """How a model is to be run. `notes` say what can't be done and why."""

    rows: int
    tower: RememberingTower | None
    prefixes: PrefixStore
    joinable: Joinable
    notes: tuple[str, ...]


def try_model(model: Any, sequences: list[Sequence], *, rows: int, feature_bytes: int, prefix_bytes: int) -> Tried:
    """Try it with these sequences, of which later ones go on where earlier ones end. Raises ModelLoadError."""
    alone = [trace_alone(model, sequence) for sequence in sequences]
    tower, notes = try_remembering(model, last_seeing(sequences), feature_bytes)
    joinable = kinds_read_together(alone, model, sequences, tower) if rows > 1 else Joinable()
    for count in (rows, 1):
        reason = deviation(alone, model, sequences, rows=min(count, len(sequences)), tower=tower)
        if not reason:
            break
        notes = [*notes, f"one request at a time: {reason}"]
    else:
        raise ModelLoadError(f"this architecture can't be served: {reason}")
    prefixes = PrefixStore(prefix_bytes)
    if prefix_bytes and (reason := trial_of_prefixes(alone, model, sequences, tower)):
        prefixes = PrefixStore(0)
        notes = [*notes, f"prompts that begin alike are not continued: {reason}"]
    if tower is not None:
        tower.start_over(separately=tower.separately, together=tower.together)
    mx.clear_cache()
    return Tried(count, tower, prefixes, joinable if count > 1 else Joinable(), tuple(notes))


def kinds_read_together(
    alone: list[Trace], model: Any, sequences: list[Sequence], tower: RememberingTower | None
) -> Joinable:
    """The kinds of prompts that may be read together, their pictures in one pass: those of these sequences, if what
    comes of them does not differ. Each kind is there twice, in two lengths."""
    cut, joinable = [shorter(sequence) for sequence in sequences], Joinable(tries=True)
    try:
        traces = [*alone, *(trace_alone(model, sequence) for sequence in cut)]
    except ModelLoadError as error:
        reason = str(error)
    else:
        several = [*sequences, *cut]
        reason = deviation(traces, model, several, rows=len(several), tower=tower, joinable=joinable)
    if reason:
        log.info("prompts are not read together: %s", reason)
    if tower is not None:
        together = tower.together and not reason
        tower.start_over(separately=tower.separately, together=together)
    return Joinable() if reason else Joinable(joinable.kinds)


def shorter(sequence: Sequence) -> Sequence:
    """A sequence of its own without the last token of a prompt."""
    length, media = len(sequence.prompt), sequence.media
    if media is not None:
        arrays = {
            name: cut_aligned(name, value, stop=length - 1)
            if isinstance(value, mx.array) and is_aligned(name, value, length)
            else value
            for name, value in media.arrays.items()
        }
        media = replace(media, arrays=arrays)
    ticket, choice = sequence.key
    return replace(sequence, key=(-1 - ticket, choice), prompt=sequence.prompt[:-1], media=media)


def last_seeing(sequences: list[Sequence]) -> Sequence:
    """The last that has pictures only; one without any if there is none."""
    return next((one for one in reversed(sequences) if one.media is not None and not one.media.sounds), sequences[0])


def trial_of_prefixes(alone: list[Trace], model: Any, sequences: list[Sequence], tower: RememberingTower | None) -> str:
    """Why prompts can't be read from the middle; empty if they can, when others and when the same went before."""
    store = PrefixStore(1 << 40)
    for again in (False, True):
        known = {sequence.key for sequence in sequences if again and may_be_known(sequence)}
        if reason := deviation(alone, model, sequences, rows=1, tower=tower, prefixes=store, known=known):
            return reason
    return ""


def may_be_known(sequence: Sequence) -> bool:
    """It is long enough, and its pictures' places are known."""
    return len(sequence.prompt) > LEAST and (sequence.media is None or sequence.media.told_apart)


def deviation(
    alone: list[Trace],
    model: Any,
    sequences: list[Sequence],
    *,
    rows: int,
    tower: RememberingTower | None,
    prefixes: PrefixStore | None = None,
    known: set[Key] = frozenset(),  # type: ignore[assignment]
    joinable: Joinable | None = None,
) -> str:
    """What differs from decoding alone; empty if nothing does. The beginnings of the `known` must be found."""
    chunk, gap_s = (CHUNK, None) if joinable is None else (max(len(one.prompt) for one in sequences), NO_HURRY_S)
    engine = StrictEngine(
        model, set(), rows=rows, prefill_step_size=chunk, tower=tower, prefixes=prefixes, gap_s=gap_s, joinable=joinable
    )
    again = [replace(one, emitted=[], logprobs=REPORTED) for one in sequences]
    try:
        traces = play(engine, again)
    except TrialFailed as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - a cache that can't do what it is asked to may raise anything
        return describe(error)
    finally:
        engine.close()
    if any(one.key in known and not one.cached_tokens for one in again):
        return "its cache can't be cut short"
    distance = max(difference(*pair) for pair in zip(alone, traces, strict=True))
    tolerance = TOLERANCE.get(model_dtype(model), LOW_PRECISION_TOLERANCE)
    return f"its log-probabilities would differ by {distance:.2g}" if distance > tolerance else ""


def play(engine: VisionEngine, sequences: list[Sequence]) -> list[Trace]:
    """What an engine makes of the sequences. Raises TrialFailed."""
    traces = {sequence.key: Trace([], []) for sequence in sequences}
    for sequence in sequences:
        engine.add(sequence)
    while engine.busy:
        for item in engine.step():
            match item:
                case Token():
                    traces[item.key].tokens.append(item.token)
                    traces[item.key].likely.append(dict(item.top))
                case Broken():
                    raise TrialFailed(item.message)
    return list(traces.values())


def model_dtype(model: Any) -> mx.Dtype:
    """The type that its numbers are computed in."""
    floats = [
        a.dtype for _, a in tree_flatten(model.language_model.parameters()) if mx.issubdtype(a.dtype, mx.floating)
    ]
    return floats[0] if floats else mx.float32
