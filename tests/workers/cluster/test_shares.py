"""Who gives up a replica for whom."""

import pytest

from mlx_server.workers.cluster.shares import Shares, Standing, asked_for, lacks_room, needs_of

ALONE = Standing(3, (8, 8, 8), ())


def test_one_that_waits_gets_a_replica_of_one_that_has_two_more() -> None:
    assert asked_for(ALONE, [Standing(1, (), (8,))]) == 8
    assert asked_for(ALONE, [Standing(2, (), (8,))]) is None, "it would have as many then as this one had"
    assert asked_for(ALONE, [Standing(0, (), ())]) is None, "it does not wait"
    assert asked_for(ALONE, []) is None


def test_none_is_given_up_that_is_too_small_or_the_only_one_of_its_model() -> None:
    assert asked_for(ALONE, [Standing(0, (), (9,))]) is None
    assert asked_for(ALONE, [Standing(0, (), (9, 7))]) == 7
    assert asked_for(Standing(3, (), ()), [Standing(0, (), (1,))]) is None


def test_models_of_unknown_size_are_shared_too() -> None:
    assert asked_for(Standing(2, (0, 0), ()), [Standing(0, (), (0,))]) == 0


@pytest.mark.parametrize("held", [(8, 0), (5, 0, 0), (3, 9, 1, 0)], ids=str)
def test_shares_come_out_even(held: tuple[int, ...]) -> None:
    """Whoever is asked gives one up, which goes to who has fewest; all want more."""
    having = list(held)
    while True:
        standings = [Standing(one, (8,) * one, (8,)) for one in having]
        asked = [asked_for(own, standings) is not None for own in standings]
        if not any(asked):
            break
        having[asked.index(True)] -= 1
        having[having.index(min(having))] += 1
    assert max(having) - min(having) <= 1


def test_one_replica_is_asked_for_at_a_time() -> None:
    shares = Shares()
    assert shares.say("poor", Standing(0, (), (8, 8))) is None
    assert shares.say("rich", ALONE) == 8
    assert shares.say("rich", ALONE) is None
    assert shares.say("richer", Standing(9, (8,) * 9, ())) is None, "the place that is given up is not taken yet"


NEEDS = needs_of(8, gpus=False)


@pytest.mark.parametrize(
    ("free", "queued", "lacks"),
    [
        ([{"CPU": 1.0, "mlx_memory": 7.0}, {"mlx_memory": 16.0}], [NEEDS], True),
        ([{"CPU": 1.0, "mlx_memory": 8.0}], [NEEDS], False),
        ([], [NEEDS], True),
        ([{"CPU": 0.0, "mlx_memory": 0.0}], [], False),
        ([{"CPU": 0.0}], [needs_of(9, gpus=False), needs_of(8, gpus=True)], False),
    ],
    ids=["too little on each node", "room", "no nodes", "it has taken the last room", "others wait"],
)
def test_what_is_queued_lacks_room_where_no_node_has_all(
    free: list[dict[str, float]], queued: list[dict[str, float]], lacks: bool
) -> None:
    assert lacks_room(NEEDS, free, queued) is lacks


def test_an_agent_needs_what_its_cluster_has() -> None:
    assert needs_of(0, gpus=False) == {"CPU": 1}
    assert needs_of(8, gpus=True) == {"CPU": 1, "GPU": 1, "mlx_memory": 8}
