"""Engines that check guesses, in steps as wide as pays, or as chance has it."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

from support.engines import Outcome, Player

from mlx_server.workers.engine.decode.admission import Admission, Footprint
from mlx_server.workers.engine.decode.batch import BatchEngine
from mlx_server.workers.engine.decode.decode_batch import DecodeBatch
from mlx_server.workers.engine.decode.prefill_budget import PrefillBudget
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.propose.batch import ProposingBatch
from mlx_server.workers.engine.propose.draft_model import DraftModel
from mlx_server.workers.engine.propose.drafter import Drafter
from mlx_server.workers.engine.propose.drafts import ModelDrafter
from mlx_server.workers.engine.propose.worth import MOST, Plan, Worth
from mlx_server.workers.engine.sequence import Sequence, Token


class Whims(Worth):
    """Steps of any width, with a draft's proposals or without, whatever they cost."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)

    def best(self, rows: int, guesses: Any, drafting: int = 0) -> Plan:
        return Plan(self._random.randint(1, 1 + MOST), self._random.random())


def drafter_of(
    draft: Any, model: Any, *, context_length: int | None = None, prefixes: PrefixStore | None = None
) -> Drafter:
    proposing = DraftModel(draft, draft.args.vocab_size, model.args.vocab_size, context_length)
    return ModelDrafter(proposing, 8, PrefillBudget(None, 64), prefixes or PrefixStore(0))


def engine_of(
    model: Any,
    drafter: Drafter | None,
    worth: Worth | None = None,
    *,
    rows: int = 8,
    own_cost: float = 1e9,
    stop_tokens: frozenset[int] = frozenset(),
) -> BatchEngine:
    admission = Admission(Footprint(1.0, 0.0), 1e9)
    admission.own_cost = own_cost
    make_rows = DecodeBatch if drafter is None else partial(ProposingBatch, worth=worth or Worth(), drafter=drafter)
    return BatchEngine(
        model,
        set(stop_tokens),
        rows=rows,
        joint_prefill=True,
        prefill_step_size=64,
        admission=admission,
        make_rows=make_rows,
    )


def drafted(one: Sequence, tokens: int | None = None) -> Sequence:
    """A sequence to which a draft model proposes so many tokens at a time, or as many as pay."""
    one.speculate, one.draft_tokens = "auto", tokens
    return one


def play(engine: Any, *sequences: Sequence) -> list[Outcome]:
    player = Player(engine)
    player.add(*sequences)
    outcomes = player.run()
    assert player.errors == {}
    return [outcomes[one.key] for one in sequences]


def reports(engine: Any, sequences: list[Sequence]) -> list[Token]:
    for one in sequences:
        engine.add(one)
    tokens: list[Token] = []
    while engine.busy:
        tokens += engine.step()
    return sorted(tokens, key=lambda one: one.key)
