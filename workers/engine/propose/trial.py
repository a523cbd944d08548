"""Whether a model reads several tokens of each row at once as it reads them one by one: tried, not looked up."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlx_server.workers.engine.decode.probe import distance, tolerance
from mlx_server.workers.engine.kvcache.holes import is_cuttable
from mlx_server.workers.engine.kvcache.layers import merged
from mlx_server.workers.engine.propose.forgetting import can_forget, forget, states_of
from mlx_server.workers.engine.runtime.kept_trials import KeptTrials
from mlx_server.workers.engine.sampling.logprobs import log_softmax

TRIAL = "guesses"

LENGTHS = (11, 3, 5)
"""Tokens of the rows, unlike the usual numbers of heads, which would hide a wrong broadcast."""

WIDE = 4
SURPLUS = (0, 3, 1)
"""Of the tokens of a wide step, those that are cut off each row."""

NEXT = 2


def may_guess(model: Any, vocab_size: int, kept: KeptTrials, *, rereads: bool = False) -> bool:
    """Whether there is no objection to guesses, which is not tried again where there was none. Engine thread only."""
    trial = f"{TRIAL}, read again" if rereads else TRIAL
    if kept.get(trial, bool):
        return True
    can = objection(model, vocab_size, rereads=rereads) is None
    mx.clear_cache()
    if can:
        kept.put(trial, can)
    return can


def objection(model: Any, vocab_size: int, *, rereads: bool = False) -> str | None:
    """Why a model can't check guesses; None if it can. `rereads`: where its cache can't be cut, it may read tokens
    again. Engine thread only."""
    cache = make_prompt_cache(model)
    if not (can_forget(cache) if rereads else is_cuttable(cache)):
        return "its cache can't forget single tokens"
    try:
        worst = max(*difference(model, vocab_size, LENGTHS, SURPLUS), *difference(model, vocab_size, (7,), (2,)))
    except Exception as error:  # noqa: BLE001 - a model that can't do it may raise anything
        return f"{type(error).__name__}: {error}"
    if worst <= tolerance(model):
        return None
    return f"its log-probabilities differ by {worst:.2g} after several tokens at once"


def difference(model: Any, vocab_size: int, lengths: tuple[int, ...], surplus: tuple[int, ...]) -> list[float]:
    """How far the log-probabilities of likely tokens are off in each row, in nats: at the first place of a wide step,
    and after it was cut."""
    rows = [[(7 * i + 3 * k) % min(97, vocab_size - 1) + 1 for i in range(n)] for k, n in enumerate(lengths)]
    caches = [make_prompt_cache(model) for _ in rows]
    for row, cache in zip(rows, caches, strict=True):
        model(mx.array([row]), cache=cache)
    single = len(rows) == 1
    together = caches[0] if single else merged(caches)
    wide = [[(5 * i + k) % min(89, vocab_size - 1) + 1 for i in range(WIDE)] for k in range(len(rows))]
    before = states_of(together)
    first = model(mx.array(wide), cache=together)[:, 0]
    together = forget(model, together, before, wide, list(surplus))
    after = [[(3 * i + k) % min(83, vocab_size - 1) + 1 for i in range(NEXT)] for k in range(len(rows))]
    logits = model(mx.array(after), cache=together)[:, -1]
    off = []
    for number, row in enumerate(rows):
        cut_off = [*row, *wide[number][: WIDE - surplus[number]], *after[number]]
        for whole, own in (([*row, wide[number][0]], first[number]), (cut_off, logits[number])):
            alone = model(mx.array([whole]), cache=make_prompt_cache(model))[0, -1]
            off.append(distance(log_softmax(alone), log_softmax(own)))
    return off
