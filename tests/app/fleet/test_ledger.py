"""Who gets memory, and who goes for it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from mlx_server.app.fleet.ledger import Evict, Fits, Full, Ledger, LoadedModel, Never, Plan, Wait


def idle(name: str, last_used: float = 0.0) -> LoadedModel:
    return LoadedModel(name, last_used, idle=True, pinned=False)


def busy(name: str, last_used: float = 0.0) -> LoadedModel:
    return LoadedModel(name, last_used, idle=False, pinned=False)


def pinned(name: str) -> LoadedModel:
    return LoadedModel(name, 0.0, idle=True, pinned=True)


def make(limit_bytes: int | None, max_models: int | None = None, **grants: int) -> Ledger:
    ledger = Ledger(limit_bytes, max_models)
    for name, held in grants.items():
        ledger.grant(name, held)
    return ledger


@pytest.mark.parametrize(
    ("ledger", "models", "spare"),
    [
        (make(100), [], True),
        (make(100, a=60), [busy("a")], True),
        (make(100, a=61), [busy("a")], False),
        (make(100, a=61), [pinned("a")], False),
        (make(100, a=61), [], False),
        (make(100, a=61), [idle("a", last_used=9.0)], True),
        (make(100, a=61), [idle("a", last_used=10.0)], False),
        (make(100, a=40, b=40), [idle("a", last_used=9.0), busy("b")], True),
        (make(39), [], True),
        (make(100, 1, a=1), [busy("a")], False),
        (make(100, 1, a=1), [pinned("a")], False),
    ],
)
def test_load_that_can_wait_displaces_nobody_who_is_in_use(
    ledger: Ledger, models: Sequence[LoadedModel], spare: bool
) -> None:
    assert ledger.has_spare("new", 40, models, unused_since=10.0) == spare


@pytest.mark.parametrize(
    ("ledger", "need", "models", "plan"),
    [
        (make(100), 100, [], Fits()),
        (make(None, a=10**15), 10**15, [busy("a")], Fits()),
        (make(100), 101, [], Never(100, 101)),
        (make(100, a=60), 40, [busy("a")], Fits()),
        (make(100, a=60), 41, [busy("a")], Wait()),
        (make(100, a=60), 41, [idle("a")], Evict(("a",))),
        # One that is being loaded holds a grant, and can't go.
        (make(100, a=60), 41, [], Wait()),
        (make(100, a=60), 41, [pinned("a")], Never(40, 41)),
        (make(100, a=130), 1, [pinned("a")], Never(0, 1)),
        # The least recently used goes first.
        (make(100, a=50, b=50), 50, [idle("a", 2.0), idle("b", 1.0)], Evict(("b",))),
        (make(100, a=50, b=50), 51, [idle("a", 2.0), idle("b", 1.0)], Evict(("b", "a"))),
        # Nobody goes whose memory would not help.
        (make(100, a=10, b=80), 80, [idle("a", 1.0), idle("b", 2.0)], Evict(("b",))),
        (make(100, a=50, b=50), 60, [idle("a"), busy("b")], Wait()),
        (make(100, a=50, b=50), 50, [pinned("a"), busy("b")], Wait()),
        (make(100, 2, a=1, b=1), 1, [idle("a", 2.0), idle("b", 1.0)], Evict(("b",))),
        (make(100, 2, a=1, b=1), 1, [busy("a"), busy("b")], Wait()),
        (make(100, 1, a=1), 1, [pinned("a")], Full(1)),
        (make(None, 1, a=1), 1, [idle("a")], Evict(("a",))),
    ],
)
def test_plan_of_a_load(ledger: Ledger, need: int, models: Sequence[LoadedModel], plan: Plan) -> None:
    assert ledger.plan("new", need, models) == plan


@pytest.mark.parametrize(
    ("ledger", "bounds"),
    [
        pytest.param(make(None, a=10), {}, id="no-limit"),
        pytest.param(make(100), {}, id="no-models"),
        pytest.param(make(100, a=60), {"a": 100}, id="all-of-it"),
        pytest.param(make(100, a=50, b=20), {"a": 65, "b": 35}, id="what-is-left-is-shared"),
        pytest.param(make(100, a=80, b=20), {"a": 80, "b": 20}, id="nothing-is-left"),
        pytest.param(make(100, a=150, b=50), {"a": 75, "b": 25}, id="more-was-measured-than-there-is"),
    ],
)
def test_what_models_may_hold_is_never_more_than_there_is(ledger: Ledger, bounds: dict[str, int]) -> None:
    assert ledger.bounds() == bounds


@pytest.mark.parametrize(
    ("models", "plan"),
    [
        ([busy("a", 1.0), busy("b", 2.0)], Evict(("a",))),
        ([busy("a", 1.0), idle("b", 2.0)], Evict(("b",))),
        ([pinned("a"), busy("b", 2.0)], Evict(("b",))),
        ([pinned("a")], Wait()),
    ],
)
def test_impatient_load_displaces_busy_models_after_idle_ones(models: Sequence[LoadedModel], plan: Plan) -> None:
    assert make(100, a=50, b=50).plan("new", 50, models, impatient=True) == plan


def test_own_grant_does_not_stand_in_the_way() -> None:
    assert make(100, 1, a=90).plan("a", 95, [idle("a")]) == Fits()


def test_measured_memory_only_raises_a_grant() -> None:
    ledger = make(100, a=50)
    ledger.measured("a", 40)
    assert ledger.granted == {"a": 50}
    ledger.measured("a", 70)
    ledger.measured("gone", 70)
    assert ledger.granted == {"a": 70}


def test_release_gives_all_back_once() -> None:
    ledger = make(100, a=50)
    ledger.release("a")
    ledger.release("a")
    assert ledger.granted == {}


@pytest.mark.parametrize(
    ("measured", "models", "names"),
    [
        ({"a": 50, "b": 50}, [idle("a"), idle("b")], ()),
        ({"a": 60, "b": 50}, [idle("a", 1.0), idle("b", 2.0)], ("a",)),
        ({"a": 60, "b": 50}, [busy("a", 1.0), idle("b", 2.0)], ()),
        ({"a": 60, "b": 50}, [pinned("a"), idle("b", 2.0)], ()),
        ({"a": 130, "b": 1}, [idle("a", 2.0), idle("b", 1.0)], ("b",)),
        ({"a": 130}, [idle("a")], ()),
        ({"a": 130}, [], ()),
    ],
)
def test_surplus_names_idle_models_and_spares_the_last_used(
    measured: dict[str, int], models: Sequence[LoadedModel], names: tuple[str, ...]
) -> None:
    ledger = make(100, **dict.fromkeys(measured, 1))
    for name, used in measured.items():
        ledger.measured(name, used)
    assert ledger.surplus(models) == names


@pytest.mark.parametrize("seed", range(20))
def test_grants_stay_within_the_limits_whatever_is_asked(seed: int) -> None:
    choose = random.Random(seed)
    limit, most = choose.randint(50, 200), choose.choice([None, 1, 2, 4])
    ledger = Ledger(limit, most)
    models: dict[str, LoadedModel] = {}
    for now in range(400):
        name, need = f"m{choose.randrange(8)}", choose.randint(1, limit + 20)
        if models and choose.random() < 0.5:
            other = choose.choice(list(models.values()))
            models[other.name] = LoadedModel(other.name, now, choose.random() < 0.5, other.pinned)
        if name in models:
            continue
        plan = ledger.plan(name, need, list(models.values()))
        match plan:
            case Evict(names):
                assert names
                assert len(set(names)) == len(names)
                for leaving in names:
                    assert models[leaving].idle
                    assert not models[leaving].pinned
                    ledger.release(leaving)
                    del models[leaving]
                assert ledger.plan(name, need, list(models.values())) == Fits()
            case Never(available, required):
                assert available < required == need
                continue
            case Wait() | Full():
                assert not all(model.idle and not model.pinned for model in models.values())
                continue
            case Fits():
                pass
        ledger.grant(name, need)
        models[name] = LoadedModel(name, now, choose.random() < 0.5, choose.random() < 0.1)
        assert sum(ledger.granted.values()) <= limit
        assert most is None or len(ledger.granted) <= most
