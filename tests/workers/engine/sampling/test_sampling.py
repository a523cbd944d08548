from collections import Counter
from typing import cast

import mlx.core as mx
import numpy as np
import pytest

from mlx_server.schemas.internal.generation import Sampling
from mlx_server.workers.engine.sampling.sampling import (
    Choice,
    SeededSampler,
    counter_key,
    draw_freely,
    filtered,
    make_processors,
    make_sampler,
    penalise_counts,
    penalise_repetition,
)
from mlx_server.workers.engine.sequence import Sequence

VOCABULARY = 50
DRAWN = Sampling(temperature=1.0)


def _sequence(sampling: Sampling, prompt: list[int] | None = None, emitted: list[int] | None = None) -> Sequence:
    return Sequence((1, 0), prompt or [1, 2, 3], 100, sampling, emitted=emitted or [])


def _logprobs(seed: int, rows: int = 1) -> mx.array:
    logits = np.random.default_rng(seed).normal(0, 3, (rows, VOCABULARY)).astype(np.float32)
    return mx.array(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))


def _draw(sampling: Sampling, count: int, emitted: int = 0) -> list[int]:
    sampler = make_sampler(_sequence(sampling, emitted=[0] * emitted))
    assert sampler is not None
    return [int(sampler(_logprobs(position + emitted)).item()) for position in range(count)]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=None),
        Sampling(temperature=0.0),
        Sampling(temperature=0.0, seed=5),
        Sampling(temperature=1.0, top_k=1),
        Sampling(temperature=1.0, top_p=0.0),
        Sampling(temperature=1e-6),
        Sampling(temperature=1e-45),
        Sampling(temperature=5e-324),
    ],
)
def test_make_sampler_leaves_greedy_decoding_to_the_generator(sampling: Sampling) -> None:
    assert make_sampler(_sequence(sampling)) is None


def test_a_low_temperature_takes_the_most_probable_token() -> None:
    assert _draw(Sampling(temperature=1e-4, seed=1), 50) == [int(mx.argmax(_logprobs(k)).item()) for k in range(50)]


def test_make_sampler_gives_each_seeded_sequence_its_own() -> None:
    one, other = (make_sampler(_sequence(Sampling(temperature=0.7, seed=1))) for _ in range(2))
    assert isinstance(one, SeededSampler)
    assert one is not other


@pytest.mark.parametrize("position", [0, 1, 7, 31])
def test_a_seed_draws_the_same_at_a_position_after_a_replay(position: int) -> None:
    undisturbed = _draw(Sampling(temperature=1.0, seed=42), 40)
    assert _draw(Sampling(temperature=1.0, seed=42), 40 - position, emitted=position) == undisturbed[position:]


def test_seeds_draw_differently() -> None:
    draws = {tuple(_draw(Sampling(temperature=1.0, seed=seed), 30)) for seed in range(20)}
    assert len(draws) == 20


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 1, 2**63 - 1])
def test_any_seed_of_64_bits_is_taken(seed: int) -> None:
    assert all(0 <= token < VOCABULARY for token in _draw(Sampling(temperature=1.0, seed=seed), 5))


def test_counter_keys_do_not_repeat() -> None:
    keys = {counter_key(seed, position) for seed in (0, 1, 2, -1, 2**63 - 1) for position in range(2000)}
    assert len(keys) == 5 * 2000
    assert all(0 <= key < 2**64 for key in keys)


@pytest.mark.parametrize("seed", [None, 7])
def test_draws_follow_the_probabilities(seed: int | None) -> None:
    probabilities = np.array([0.5, 0.25, 0.15, 0.1, 0.0])
    with np.errstate(divide="ignore"):
        logprobs = mx.array(np.log(probabilities)[None].astype(np.float32))
    sampler = make_sampler(_sequence(Sampling(temperature=1.0, seed=seed)))
    assert sampler is not None
    mx.random.seed(1)
    counts = Counter(int(sampler(logprobs).item()) for _ in range(2000))
    assert np.abs(np.array([counts[i] / 2000 for i in range(5)]) - probabilities).max() < 0.04
    assert counts[4] == 0


def test_draw_freely_draws_for_each_row_of_a_batch() -> None:
    peaked = np.full((3, VOCABULARY), -np.inf, np.float32)
    peaked[[0, 1, 2], [5, 17, 49]] = 0.0
    assert cast(list[int], draw_freely(Choice(1.0, 1.0, 0, 0.0), mx.array(peaked)).tolist()) == [5, 17, 49]


def _reference(logprobs: np.ndarray, top_p: float, top_k: int, min_p: float) -> np.ndarray:
    out = logprobs.astype(np.float64).copy()
    if 0 < top_p < 1:
        for row in out:
            order = np.argsort(-row)
            before = np.cumsum(np.exp(row[order])) - np.exp(row[order])
            row[order[before >= top_p]] = -np.inf
    if min_p > 0:
        out[np.exp(out) < min_p * np.exp(out).max(-1, keepdims=True)] = -np.inf
    if 0 < top_k < out.shape[-1]:
        for row in out:
            row[np.argsort(-row)[top_k:]] = -np.inf
    return out


@pytest.mark.parametrize("top_p", [1.0, 0.999, 0.9, 0.5, 0.01])
@pytest.mark.parametrize("top_k", [-1, 0, 2, 10, VOCABULARY - 1, VOCABULARY, 10 * VOCABULARY])
@pytest.mark.parametrize("min_p", [0.0, 0.01, 0.3, 1.0])
def test_filters_equal_the_reference(top_p: float, top_k: int, min_p: float) -> None:
    for seed in range(5):
        logprobs = _logprobs(seed, rows=3)
        result = np.array(filtered(logprobs, top_p, top_k, min_p))
        expected = _reference(np.array(logprobs), top_p, top_k, min_p)
        assert (np.isinf(result) == np.isinf(expected)).all()
        np.testing.assert_allclose(result[~np.isinf(result)], expected[~np.isinf(expected)], rtol=1e-6)
        assert (~np.isinf(result)).any(-1).all(), "some token must be left"


def test_filters_leave_unfiltered_probabilities_alone() -> None:
    logprobs = _logprobs(0)
    assert mx.array_equal(filtered(logprobs, 1.0, 0, 0.0), logprobs)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16, mx.float32])
def test_top_p_holds_over_many_small_probabilities_in_any_precision(dtype: mx.Dtype) -> None:
    size = 20_000
    even = mx.full((1, size), -float(np.log(size)), dtype)
    kept = int((~mx.isinf(filtered(even, 0.5, 0, 0.0))).sum().item())
    assert kept == pytest.approx(size / 2, rel=0.01 if dtype == mx.float32 else 0.05)


def test_a_sampler_draws_only_what_its_filters_leave() -> None:
    logprobs = _logprobs(3)
    allowed = set(np.argsort(-np.array(logprobs)[0])[:3].tolist())
    sampler = SeededSampler(1, 0, Choice(2.0, 1.0, 3, 0.0))
    assert {int(sampler(logprobs).item()) for _ in range(300)} == allowed


def _process(sampling: Sampling, prompt: list[int], emitted: list[int], logits: np.ndarray) -> np.ndarray:
    processors = make_processors(_sequence(sampling, prompt, emitted), set())
    assert processors is not None
    result = processors(mx.array(prompt + emitted), mx.array(logits))
    assert processors.error is None
    return np.array(result)


@pytest.mark.parametrize(
    "sampling",
    [DRAWN, Sampling(repetition_penalty=1.0), Sampling(presence_penalty=0.0, frequency_penalty=0.0, logit_bias={})],
)
def test_make_processors_makes_none_that_do_nothing(sampling: Sampling) -> None:
    assert make_processors(_sequence(sampling), set()) is None


@pytest.mark.parametrize(("presence", "frequency"), [(0.5, 0.0), (0.0, 0.7), (1.5, -0.3), (-2.0, 2.0)])
def test_count_penalties_are_openais_formula_over_generated_tokens(presence: float, frequency: float) -> None:
    prompt, emitted = [5, 5, 6, 7], [5, 8, 8, 8, 9]
    logits = np.random.default_rng(0).normal(0, 3, (1, VOCABULARY)).astype(np.float32)
    expected = logits.copy()
    for token, count in Counter(emitted).items():
        expected[0, token] -= count * frequency + float(count > 0) * presence
    sampling = Sampling(presence_penalty=presence, frequency_penalty=frequency)
    np.testing.assert_allclose(_process(sampling, prompt, emitted, logits), expected, rtol=1e-5)


def test_count_penalties_start_with_the_first_generated_token() -> None:
    logits = mx.ones((1, VOCABULARY))
    assert mx.array_equal(penalise_counts(3, 1.0, 1.0, mx.array([5, 6, 7]), logits), logits)


@pytest.mark.parametrize("penalty", [0.5, 1.3])
@pytest.mark.parametrize("window", [1, 3, 20])
def test_repetition_penalty_divides_positive_and_multiplies_negative_logits(penalty: float, window: int) -> None:
    prompt, emitted = [5, 6, 7], [8, 8, 9]
    logits = np.random.default_rng(0).normal(0, 3, (1, VOCABULARY)).astype(np.float32)
    expected = logits.copy()
    for token in set((prompt + emitted)[-window:]):
        expected[0, token] *= penalty if logits[0, token] < 0 else 1 / penalty
    sampling = Sampling(repetition_penalty=penalty, repetition_context_size=window)
    np.testing.assert_allclose(_process(sampling, prompt, emitted, logits), expected, rtol=1e-5)


def test_repetition_penalty_is_no_stronger_for_a_token_that_comes_twice() -> None:
    once = penalise_repetition(2.0, 20, mx.array([5]), mx.ones((1, VOCABULARY)))
    thrice = penalise_repetition(2.0, 20, mx.array([5, 5, 5]), mx.ones((1, VOCABULARY)))
    assert mx.array_equal(once, thrice)


def test_logit_bias_is_added_to_its_tokens_only() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (1, VOCABULARY)).astype(np.float32)
    expected = logits.copy()
    expected[0, 0] += -100.0
    expected[0, VOCABULARY - 1] += 1.5
    biased = _process(Sampling(logit_bias={0: -100.0, VOCABULARY - 1: 1.5}), [1], [], logits)
    np.testing.assert_allclose(biased, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16, mx.float32])
def test_processors_keep_the_type_of_the_logits(dtype: mx.Dtype) -> None:
    sampling = Sampling(repetition_penalty=1.1, presence_penalty=0.5, frequency_penalty=0.5, logit_bias={3: 1.0})
    processors = make_processors(_sequence(sampling, emitted=[4]), set())
    assert processors is not None
    assert processors(mx.array([1, 2, 3, 4]), mx.ones((1, VOCABULARY), dtype)).dtype == dtype


def test_an_exception_of_a_processor_is_kept_and_the_logits_go_on() -> None:
    processors = make_processors(_sequence(Sampling(repetition_penalty=cast(float, "strong"))), set())
    assert processors is not None
    logits = mx.ones((1, VOCABULARY))
    for _ in range(2):
        assert processors(mx.array([1, 2]), logits).shape == logits.shape
    assert processors.error is not None
