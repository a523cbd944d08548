"""Where a request goes, as a pure decision."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mlx_server.queue.placement import Pace, Place, Placement, delay_s, placement, rather, spared_s

PACE = Pace(service_s=4.0, prefill_s=0.001)

characters = st.integers(0, 100_000)
places = st.builds(Place, known=characters, taken=st.integers(0, 64), rows=st.integers(1, 32), forgotten=characters)
paces = st.builds(Pace, service_s=st.floats(0, 100), prefill_s=st.floats(0, 1))
others = st.dictionaries(st.integers(0, 9), places, max_size=10)


def test_the_longest_known_beginning_wins_unless_its_replica_is_too_full() -> None:
    idle = Place(0, 0, 4)
    assert rather(idle, {"knows": Place(1_900, 4, 4)}, PACE) == "knows", "1 s until a row is free, 0.8 s for company"
    assert rather(idle, {"knows": Place(1_700, 4, 4)}, PACE) is None, "1.7 s spared"
    assert rather(idle, {"knows": Place(700, 3, 4)}, PACE) == "knows", "a row is free"
    assert rather(idle, {"more": Place(5_000, 6, 4), "less": Place(4_500, 1, 4)}, PACE) == "less"
    assert rather(idle, {"emptier": idle}, PACE) is None, "what spares nothing is not waited for"


def test_what_is_forgotten_for_it_counts() -> None:
    empty, full = Place(0, 0, 4), Place(0, 0, 4, forgotten=2_000)
    knowing = {"knows": Place(1_500, 0, 4, forgotten=500)}
    assert rather(empty, knowing, PACE) == "knows"
    assert rather(empty, {"knows": Place(500, 0, 4, forgotten=1_500)}, PACE) is None, "there is room elsewhere"
    assert rather(full, {"knows": Place(500, 0, 4, forgotten=1_500)}, PACE) == "knows", "there is none"


@given(places, others, paces)
def test_only_a_place_that_knows_more_and_costs_less_is_preferred(
    offered: Place, others: dict[int, Place], pace: Pace
) -> None:
    chosen = rather(offered, others, pace)
    knowing = [delay_s(one, pace) for one in others.values() if one.known > offered.known]
    least = min(knowing, default=delay_s(offered, pace))
    assert (chosen is None) == (least >= delay_s(offered, pace))
    if chosen is not None:
        assert delay_s(others[chosen], pace) == least
        assert rather(others[chosen], {0: offered}, pace) is None, "nobody is sent to and fro"


@given(places, places, paces, st.integers(0, 64))
def test_a_place_is_never_preferred_for_being_fuller(offered: Place, other: Place, pace: Pace, more: int) -> None:
    fuller = replace(other, taken=other.taken + more)
    if rather(offered, {0: fuller}, pace) is not None:
        assert rather(offered, {0: other}, pace) is not None


def test_what_is_spared_is_what_is_read_elsewhere() -> None:
    assert spared_s(Place(3_000, 9, 9), Place(1_000, 0, 1), PACE) == 2.0
    assert spared_s(Place(1_000, 0, 1), Place(3_000, 0, 1), PACE) == 0.0


def test_placements_are_told_apart() -> None:
    assert [placement(0, 0), placement(3, 3), placement(0, 3), placement(2, 3)] == [
        Placement.NEW,
        Placement.KNOWN,
        Placement.SPILLED,
        Placement.SPILLED,
    ]
