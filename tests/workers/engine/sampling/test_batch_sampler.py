"""Rows that draw together draw what each would alone."""

from __future__ import annotations

import itertools

import mlx.core as mx
import numpy as np
import pytest
from support.engines import sequence

from mlx_server.schemas.internal.generation import Sampling
from mlx_server.workers.engine.sampling.batch_sampler import RowSamplers, log_softmax
from mlx_server.workers.engine.sampling.sampling import filtered, make_sampler
from mlx_server.workers.engine.vision.batch_sampler import ReportingSamplers

pytestmark = pytest.mark.model

CHOICES = [
    Sampling(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p)
    for temperature, top_p, top_k, min_p in itertools.product((0.3, 1.0, 1.7), (1.0, 0.8), (0, 3, 40), (0.0, 0.05))
]


def _logits(rows: int, seed: int, dtype: mx.Dtype = mx.float32) -> mx.array:
    drawn = mx.random.normal((rows, 200), key=mx.random.key(seed)) * 3
    return drawn.astype(dtype)


def _seeded(sampling: Sampling, seed: int) -> Sampling:
    return Sampling(sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p, seed)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=["float32", "bfloat16"])
def test_seeded_rows_of_any_parameters_draw_what_each_draws_alone(dtype: mx.Dtype) -> None:
    sequences = [sequence(n, [5], sampling=_seeded(sampling, n)) for n, sampling in enumerate(CHOICES)]
    sequences.insert(7, sequence(100, [5]))
    sequences.insert(20, sequence(101, [5], sampling=Sampling(temperature=1.0)))
    together = RowSamplers()
    for one in sequences:
        together.add(one)
    alone = [make_sampler(one) for one in sequences]
    for step in range(5):
        logits = _logits(len(sequences), step, dtype)
        drawn = np.array(together.draw([one.key for one in sequences], logits)).tolist()
        for number, sampler in enumerate(alone):
            row = logits[number : number + 1]
            if sequences[number].key[0] == 101:
                continue
            expected = mx.argmax(row, axis=-1) if sampler is None else sampler(log_softmax(row))
            assert drawn[number] == expected.item(), (step, sequences[number].sampling)


def test_rows_that_join_later_draw_what_they_would_have(llama: object) -> None:
    """A row's keys are counted by its own tokens."""
    one, other = (sequence(n, [5], sampling=_seeded(CHOICES[0], n)) for n in range(2))
    logits = [_logits(2, step) for step in range(4)]
    expected = []
    sampler = make_sampler(other)
    assert sampler is not None
    for step in (2, 3):
        expected.append(sampler(log_softmax(logits[step][1:])).item())
    rows = RowSamplers()
    rows.add(one)
    for step in range(2):
        rows.draw([one.key], logits[step][:1])
    rows.add(other)
    assert [rows.draw([one.key, other.key], logits[step])[1].item() for step in (2, 3)] == expected


def test_rows_without_seeds_are_drawn_by_their_own_probabilities() -> None:
    """Each row has two likely tokens, and its filters leave one or both."""
    sharp, flat = Sampling(temperature=0.05), Sampling(temperature=1.0)
    only_best = Sampling(temperature=1.0, top_p=0.5)
    rows = RowSamplers()
    sequences = [sequence(n, [5], sampling=(sharp, flat, only_best)[n % 3]) for n in range(60)]
    for one in sequences:
        rows.add(one)
    logits = mx.full((60, 50), -30.0)
    logits[:, 7] = 1.0
    logits[:, 8] = 0.5
    drawn = [np.array(rows.draw([one.key for one in sequences], logits)).tolist() for _ in range(20)]
    seen = [{row[n] for row in drawn for n in range(kind, 60, 3)} for kind in range(3)]
    assert seen[1] == {7, 8}
    assert seen[2] == {7}
    assert seen[0] <= {7, 8}
    sharp_best = sum(row[n] == 7 for row in drawn for n in range(0, 60, 3)) / 400
    assert sharp_best > 0.97


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=str)
def test_a_nucleus_of_half_precision_holds_what_its_numbers_say(dtype: mx.Dtype) -> None:
    """A few likely tokens, and a whole vocabulary of unlikely ones."""
    logits = mx.random.normal((40, 32000), key=mx.random.key(3)) * 2
    logits[:, 7] = mx.linspace(17, 22, 40)
    logits[:, 70] = logits[:, 7] - 0.7
    logits[:, 700] = logits[:, 7] - 1.9
    logits = logits.astype(dtype)
    logprobs = log_softmax(logits)
    assert np.exp(np.array(logprobs)).sum(-1) == pytest.approx(np.ones(40), abs=1e-3)
    exact = np.exp(np.array(logits.astype(mx.float32), np.float64))
    ordered = -np.sort(-exact / exact.sum(-1, keepdims=True), axis=-1)
    expected = (ordered.cumsum(-1) - ordered < 0.95).sum(-1)
    assert np.isfinite(np.array(filtered(logprobs, 0.95, 0, 0.0))).sum(-1).tolist() == expected.tolist()


def test_reports_of_half_precision_add_up_to_one() -> None:
    """mlx-vlm's log-probabilities are rounded as the model's logits are."""
    logits = mx.random.normal((1, 32000), key=mx.random.key(4))
    logits[:, 7] = logits[:, 70] = 19.3
    logits = logits.astype(mx.bfloat16)
    rows = ReportingSamplers()
    one = sequence(1, [5])
    one.logprobs = 1
    rows.add(one)
    rows.draw([one.key], logits - mx.logsumexp(logits, axis=-1, keepdims=True))
    assert mx.exp(rows.drawn()[one.key].astype(mx.float32)).sum().item() == pytest.approx(1, abs=1e-3)
