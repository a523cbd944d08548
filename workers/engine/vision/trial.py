"""What a model takes, tried when it is loaded: decoding in a batch, remembered pictures, prompts read from the middle.

Each is compared with mlx-vlm's own unbatched loop. The trial also warms the model up. Engine thread only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_vlm.generate.ar import generate_step

from mlx_server.workers.engine.probe import LOW_PRECISION_TOLERANCE, TOLERANCE
from mlx_server.workers.engine.replay import describe
from mlx_server.workers.engine.vision.batch import VisionEngine
from mlx_server.workers.engine.vision.features import RememberingTower, forget, remember
from mlx_server.workers.engine.vision.prefill import begin
from mlx_server.workers.engine.vision.prefixes import LEAST, PrefixStore
from mlx_server.workers.handlers.base import ModelLoadError
from mlx_server.workers.sequence import Broken, Key, Sequence, Token

TOKENS = 5
REPORTED = 5

CHUNK = 24
"""Small enough that prompts are read in several chunks."""

FEATURE_TOLERANCE = {mx.float32: 1e-3}
LOW_PRECISION_FEATURE_TOLERANCE = 0.05
"""How far features may be off, as a share of the largest."""


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
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Trace:
    """One sequence's greedy tokens, each with log-probabilities of the likely tokens in its place."""

    tokens: list[int]
    likely: list[dict[int, float]]


def try_model(model: Any, sequences: list[Sequence], *, rows: int, feature_bytes: int, prefix_bytes: int) -> Tried:
    """Try it with these sequences, of which later ones go on where earlier ones end. Raises ModelLoadError."""
    alone = [trace_alone(model, sequence) for sequence in sequences]
    tower, notes = try_remembering(model, last_seeing(sequences), feature_bytes)
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
        tower.start_over(separately=tower.separately)
    mx.clear_cache()
    return Tried(count, tower, prefixes, tuple(notes))


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
) -> str:
    """What differs from decoding alone; empty if nothing does. The beginnings of the `known` must be found."""
    engine = StrictEngine(model, set(), rows=rows, prefill_step_size=CHUNK, tower=tower, prefixes=prefixes)
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


def trace_alone(model: Any, sequence: Sequence) -> Trace:
    """The unbatched reference. Raises ModelLoadError."""
    ids = mx.array([sequence.prompt])
    arrays = dict(sequence.media.arrays) if sequence.media is not None else {}
    pixels = arrays.pop("pixel_values", None)
    trace = Trace([], [])
    try:
        steps = generate_step(
            ids, model, pixels, mx.ones_like(ids), max_tokens=TOKENS, temperature=0.0, top_p=1.0, top_k=0, **arrays
        )
        for token, logprobs in steps:
            best = mx.argpartition(-logprobs, kth=REPORTED)[:REPORTED]
            trace.tokens.append(int(token))
            trace.likely.append(dict(zip(as_list(best), as_list(logprobs[best].astype(mx.float32)), strict=True)))
    except Exception as error:
        raise ModelLoadError(f"this model fails: {describe(error)}") from error
    return trace


def difference(alone: Trace, other: Trace) -> float:
    """Largest distance of likely tokens' log-probabilities, over the steps with the same tokens before them."""
    worst = 0.0
    for i, expected in enumerate(alone.likely):
        found = other.likely[i]
        least = min(found.values())
        for token, logprob in expected.items():
            # One that is not among the others' likely ones has at most what the least of those has.
            distance = abs(logprob - found[token]) if token in found else max(0.0, logprob - least)
            worst = max(worst, math.inf if math.isnan(distance) else distance)
        if alone.tokens[i] != other.tokens[i]:
            break
    return worst


def try_remembering(model: Any, sequence: Sequence, limit_bytes: int) -> tuple[RememberingTower | None, list[str]]:
    """A memory before the model's encoder, if the features are the same with it, and what there is to say."""
    if sequence.media is None or not limit_bytes:
        return None, []
    plain = features(model, sequence)
    tower = remember(model, limit_bytes)
    if tower is None:
        return None, ["features of pictures are not kept: no encoder was found"]
    for separately in (True, False):
        tower.start_over(separately=separately)
        if is_transparent(model, tower, sequence, plain):
            tower.start_over(separately=separately)
            return tower, [] if separately else ["features of pictures are kept for those that come together"]
    forget(model, tower)
    return None, ["features of pictures are not kept: they would differ"]


def is_transparent(model: Any, tower: RememberingTower, sequence: Sequence, plain: list[mx.array]) -> bool:
    """The features are the same when the encoder looks at pictures through this, and when they are remembered."""
    assert sequence.media is not None
    try:
        computed = same(plain, features(model, sequence))
        tower.counted(0)
        remembered = same(plain, features(model, sequence))
    except Exception:  # noqa: BLE001 - an encoder that is called otherwise than it expects may raise anything
        return False
    return computed and remembered and tower.counted(sequence.media.count) == (0, sequence.media.count)


def features(model: Any, sequence: Sequence) -> list[mx.array]:
    """All that a prompt with pictures becomes before the language model reads it."""
    prefill = begin(model, sequence.prompt, sequence.media)
    return [leaf for _, leaf in tree_flatten([prefill.embeddings, prefill.extras]) if isinstance(leaf, mx.array)]


def same(expected: list[mx.array], others: list[mx.array]) -> bool:
    """Equal up to rounding."""
    if [array.shape for array in expected] != [array.shape for array in others]:
        return False
    return all(is_close(*pair) for pair in zip(expected, others, strict=True))


def is_close(expected: mx.array, other: mx.array) -> bool:
    """Equal up to rounding, as a share of the largest number."""
    tolerance = FEATURE_TOLERANCE.get(expected.dtype, LOW_PRECISION_FEATURE_TOLERANCE)
    a, b = expected.astype(mx.float32), other.astype(mx.float32)
    return bool((mx.abs(a - b).max() <= tolerance * mx.maximum(mx.abs(a).max(), 1e-6)).item())


def model_dtype(model: Any) -> mx.Dtype:
    """The type that its numbers are computed in."""
    floats = [
        a.dtype for _, a in tree_flatten(model.language_model.parameters()) if mx.issubdtype(a.dtype, mx.floating)
    ]
    return floats[0] if floats else mx.float32


def as_list(array: mx.array) -> list[Any]:
    """Its numbers."""
    return list(array.tolist())  # type: ignore[arg-type]
