"""Where a request goes, as a pure decision."""

from hypothesis import given
from hypothesis import strategies as st

from mlx_server.queue.placement import Pace, Place, Placement, delay_s, placement, rather, spared_s

PACE = Pace(service_s=4.0, prefill_s=0.001)

places = st.builds(Place, known=st.integers(0, 100_000), taken=st.integers(0, 64), rows=st.integers(1, 32))
paces = st.builds(Pace, service_s=st.floats(0, 100), prefill_s=st.floats(0, 1))
others = st.dictionaries(st.integers(0, 9), places, max_size=10)


def test_the_longest_known_beginning_wins_unless_its_replica_is_too_full() -> None:
    idle = Place(0, 0, 4)
    assert rather(idle, {"knows": Place(5_000, 4, 4)}, PACE) == "knows", "4 s of work before it, 5 s of reading spared"
    assert rather(idle, {"knows": Place(3_000, 4, 4)}, PACE) is None, "3 s spared"
    assert rather(idle, {"more": Place(5_000, 2, 4), "less": Place(4_500, 1, 4)}, PACE) == "less"
    assert rather(idle, {"emptier": idle}, PACE) is None, "what spares nothing is not waited for"


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
    fuller = Place(other.known, other.taken + more, other.rows)
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
