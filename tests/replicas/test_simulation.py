"""The simulation of many replicas, on cases whose answers are known."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

from replicas.model import Service
from replicas.simulation import AFFINITY, OWN, simulate
from replicas.trace import Arrival, make_trace

SERVICE = Service(rows=1, kept_tokens=1 << 20, prefill_s=0.01, step_s=0.1)
FIRST, SECOND = 500, 1100
"""Tokens of a conversation's turns; the second's first 600 are the first turn and its answer."""

LONE = [Arrival(100.0 * number, number % 2, number // 2) for number in range(4)]
"""Two conversations of two turns, each of which comes when nothing runs."""


def test_every_second_turn_is_known_where_it_was() -> None:
    found = simulate(LONE, AFFINITY, replicas=2, front_ends=1, service=SERVICE)
    assert found.hit_rate == 2 * 600 / (2 * FIRST + 2 * SECOND)
    assert found.first_token_p50_s == pytest.approx(5.1), "500 tokens are read, as for the first turn"
    assert found.imbalance == 0.0


def test_what_is_known_depends_on_the_replica_and_not_on_the_front_end() -> None:
    kept = simulate(LONE, AFFINITY, replicas=1, front_ends=2, service=SERVICE)
    assert kept.hit_rate == 2 * 600 / (2 * FIRST + 2 * SECOND), "one replica knows all, whoever asks it"
    turns = simulate([LONE[0], LONE[2]], "round robin", replicas=2, front_ends=1, service=SERVICE)
    assert turns.hit_rate == 0.0, "the second turn comes to the other one"


def test_a_front_end_with_replicas_of_its_own_uses_no_others() -> None:
    both = simulate(LONE, OWN, replicas=2, front_ends=2, service=SERVICE)
    assert (both.hit_rate, both.imbalance) == (2 * 600 / (2 * FIRST + 2 * SECOND), 0.0)
    one = simulate([one for one in LONE if one.conversation == 0], OWN, replicas=2, front_ends=2, service=SERVICE)
    assert one.imbalance == 1.0, "the other's replica has nothing to do"


def test_a_full_replica_is_waited_for() -> None:
    both_at_once = [Arrival(0.0, 0, 0), Arrival(0.0, 1, 0)]
    found = simulate(both_at_once, "least loaded", replicas=1, front_ends=1, service=SERVICE)
    assert found.first_token_p95_s == pytest.approx(2 * 5.1 + 99 * 0.1)


def test_a_trace_has_each_turn_once_and_in_order() -> None:
    trace = make_trace(conversations=8, turns=3, rate=5.0)
    assert trace == make_trace(conversations=8, turns=3, rate=5.0)
    for conversation in range(8):
        assert [one.turn for one in trace if one.conversation == conversation] == [0, 1, 2]
