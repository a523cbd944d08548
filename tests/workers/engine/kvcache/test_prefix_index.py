"""Finding what begins alike."""

import random
from dataclasses import dataclass

import pytest

from mlx_server.workers.engine.kvcache.prefix_index import MOST_COMPARED, Beginning, PrefixIndex, alike, as_ids, stops


@dataclass(frozen=True)
class Picture:
    start: int
    end: int
    name: str


def _beginning(tokens: list[int], owner: str = "", *pictures: Picture, whole: bool = False) -> Beginning:
    return Beginning(owner, as_ids(tokens), pictures, whole)


def _longest_of(entries: dict[int, Beginning], new: Beginning) -> int:
    """By comparing with all."""
    lengths = [(alike(entry, new, len(new) - 1), entry) for entry in entries.values()]
    return max((length for length, entry in lengths if not entry.whole or length == len(entry)), default=0)


@pytest.mark.parametrize("seed", range(4))
def test_longest_finds_what_comparing_with_all_finds(seed: int) -> None:
    rng = random.Random(seed)
    index, entries = PrefixIndex(), {}
    roots = [[rng.randrange(50) for _ in range(2000)] for _ in range(3)]
    for number in range(1, 300):
        if entries and rng.random() < 0.3:
            gone = rng.choice(list(entries))
            index.remove(gone)
            del entries[gone]
        root = rng.choice(roots)
        tokens = root[: rng.randint(1, 1500)] + [rng.randrange(50, 60) for _ in range(rng.randint(0, 40))]
        entries[number] = _beginning(tokens, rng.choice("ab"), whole=rng.random() < 0.2)
        index.add(number, entries[number])
        assert len(index) == len(entries)
        new = _beginning([*rng.choice(roots)[: rng.randint(2, 1800)], 61], rng.choice("ab"))
        length, number = index.longest(new)
        best = _longest_of(entries, new)
        assert length <= best
        if len(entries) < MOST_COMPARED:
            assert length == best or best < 16
        if length:
            assert alike(entries[number], new, len(new) - 1) == length
    for number in list(entries):
        index.remove(number)
    assert not index._nodes


def test_the_last_token_is_never_taken_over() -> None:
    index = PrefixIndex()
    index.add(1, _beginning(list(range(40))))
    assert index.longest(_beginning(list(range(40)))) == (39, 1)
    assert index.longest(_beginning(list(range(41)))) == (40, 1)


def test_a_whole_entry_is_of_use_only_to_what_has_all_of_it() -> None:
    index = PrefixIndex()
    index.add(1, _beginning(list(range(20)), whole=True))
    index.add(2, _beginning(list(range(60)), whole=True))
    assert index.longest(_beginning([*range(50), 99])) == (20, 1)
    assert index.longest(_beginning([*range(70)])) == (60, 2)
    assert index.nearest(_beginning([*range(50), 99])) == (50, 2)


def test_a_whole_entry_is_found_among_many_later_ones_that_begin_with_it() -> None:
    index, system = PrefixIndex(), list(range(300))
    index.add(1, _beginning(system, whole=True))
    for number in range(2, 4 * MOST_COMPARED):
        index.add(number, _beginning([*system, *[number] * 200], whole=True))
    assert index.longest(_beginning([*system, 1, 1, 1])) == (300, 1)
    for number in range(1, 4 * MOST_COMPARED):
        index.remove(number)
    assert not index._nodes
    assert not index._ends


def test_owners_share_nothing() -> None:
    index = PrefixIndex()
    index.add(1, _beginning(list(range(100)), "a"))
    assert index.longest(_beginning(list(range(100)), "b")) == (0, -1)
    assert index.nearest(_beginning(list(range(100)), "b")) == (0, -1)


def test_a_place_is_alike_only_if_it_is_the_same_and_wholly_there() -> None:
    index, tokens = PrefixIndex(), list(range(100))
    index.add(1, _beginning(tokens, "", Picture(30, 40, "cat")))
    assert index.longest(_beginning(tokens, "", Picture(30, 40, "cat"))) == (99, 1)
    assert index.longest(_beginning(tokens, "", Picture(30, 40, "dog"))) == (30, 1)
    assert index.longest(_beginning(tokens)) == (30, 1)
    assert index.longest(_beginning([*range(35), 7, 7, 7], "", Picture(30, 38, "cat"))) == (30, 1)


def test_beginnings_of_are_what_is_wholly_in_a_longer_one() -> None:
    index = PrefixIndex()
    for number, tokens in enumerate([[*range(20)], [*range(50)], [*range(49), 7], [*range(90)]]):
        index.add(number, _beginning(tokens))
    assert sorted(index.beginnings_of(_beginning([*range(60)]))) == [0, 1]


def test_stops_go_on_for_ever() -> None:
    assert stops(15) == ()
    assert stops(70) == (16, 32, 48, 64)
    assert stops(30_000)[-1] == 1024 + (30_000 - 1024) // 256 * 256
