"""Sequences on an engine whose process may hold only so much. Run in a process of its own: what other tests have left
in theirs would count."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
from support.engines import Outcome, Player, alone, sequence

from mlx_server.workers.engine.decode.admission import Admission, footprint
from mlx_server.workers.engine.decode.batch import BatchEngine
from mlx_server.workers.engine.decode.scoring import ScoringEngine
from mlx_server.workers.engine.decode.sequential import SequentialEngine
from mlx_server.workers.engine.engine import Engine
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.engine.runtime.memory_bound import MemoryBound
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.engine.side_by_side import SideBySide

MEGABYTE = 1 << 20


E = TypeVar("E", bound=Engine)
Make = Callable[[Any, PrefixStore, Admission], E]


def batch(model: Any, prefixes: PrefixStore, admission: Admission) -> BatchEngine:
    """An engine that steps up to eight rows together."""
    return BatchEngine(
        model, set(), rows=8, joint_prefill=True, prefill_step_size=512, prefixes=prefixes, admission=admission
    )


def sequential(model: Any, prefixes: PrefixStore, admission: Admission) -> Engine:
    """An engine for one sequence at a time."""
    return SequentialEngine(model, set(), prefill_step_size=512, prefixes=prefixes, admission=admission)


def scoring(model: Any, prefixes: PrefixStore, admission: Admission) -> Engine:
    """An engine that scores prompts, beside one that writes."""
    writing = batch(model, prefixes, admission)
    return SideBySide(writing, ScoringEngine(model, writing, prefixes, admission))


def scored(one: Sequence) -> Sequence:
    """With reports on its prompt's tokens, as the engine for scoring wants it."""
    one.prompt_logprobs = 0
    return one


def bounded(model: Any, more: int, make: Make[E]) -> tuple[E, MemoryBound]:
    """An engine that may hold so many bytes beside all that there is."""
    size, prefixes, bound = footprint(model), PrefixStore(1 << 40), MemoryBound()
    engine = make(model, prefixes, Admission(size, 1e15, bound))
    platform.configure()
    bound.loaded(prefixes, 0)
    bound.limit_bytes = psutil.Process().memory_info().rss + more
    return engine, bound


@dataclass
class Seen:
    """What was held at most beyond the limit in bytes, how many rows ran at most, what became of each sequence, and
    of some of them alone."""

    over: int
    rows: int
    outcomes: list[Outcome]
    alone: dict[int, Outcome]


def kept_prompts(folder: Path, less: int) -> int:
    """Five prompts of 19 MB each are kept for the model in `folder`, and then `less` may be held than is: so many bytes
    more are, still."""
    from mlx_lm.utils import load_model

    engine, bound = bounded(load_model(folder)[0], 400 * MEGABYTE, batch)
    player = Player(engine)
    player.add(*(sequence(number, [5 + number] * 600, 2) for number in range(5)))
    player.run()
    bound.limit_bytes = psutil.Process().memory_info().rss - less
    assert bound.make_room()
    return psutil.Process().memory_info().rss - bound.limit_bytes


def eight_prompts(folder: Path) -> Seen:
    """Eight prompts of 13 MB each for the model in `folder`, where 64 MB may be held."""
    from mlx_lm.utils import load_model

    model = load_model(folder)[0]
    rng = random.Random(3)
    sequences = [sequence(number, [rng.randrange(4, 250) for _ in range(400)], 8) for number in range(8)]
    # First of all, so that the libraries hold what they always will.
    by_themselves = {number: alone(model, sequences[number].prompt, 8) for number in (0, 4)}
    engine, bound = bounded(model, 64 * MEGABYTE, batch)
    assert bound.limit_bytes is not None
    player = Player(engine)
    player.add(*sequences)
    most = rows = 0
    while engine.busy:
        player.step()
        most = max(most, psutil.Process().memory_info().rss)
        rows = max(rows, len(engine._running))
    return Seen(
        most - bound.limit_bytes,
        rows,
        [player.outcomes[one.key] for one in sequences],
        by_themselves,
    )
