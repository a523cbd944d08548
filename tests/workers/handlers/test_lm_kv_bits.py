"""Quantised KV states: the same as mlx-lm's own, or an honest refusal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_server.schemas.internal.generation import GenerationRequest, Sampling, TextPrompt
from mlx_server.schemas.internal.messages import Load
from mlx_server.workers.engine.decode.admission import footprint
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.handlers.lm import LanguageHandler

pytestmark = pytest.mark.model

TEXT = TextPrompt("The capital of France is Paris, that of Spain is Madrid, and the capital of Italy is")


def _load(folder: Path, **more: Any) -> LanguageHandler:
    handler = LanguageHandler()
    facts = handler.load(Load(str(folder), "lm", 4, 512, "/dev/null/nowhere", kv_bits=8, **more), lambda _: None)
    assert facts.rows == 1
    assert any("--kv-bits" in note for note in facts.notes)
    return handler


def _answer(handler: LanguageHandler, ticket: int) -> Sequence:
    [sequence] = handler.prepare(ticket, GenerationRequest((TEXT,), 8, sampling=Sampling(temperature=0.0)))
    handler.engine.add(sequence)
    while handler.engine.busy:
        handler.engine.step()
    return sequence


def test_quantised_states_give_what_mlx_lm_gives_with_them(smollm2: Path) -> None:
    import mlx.core as mx
    from mlx_lm.generate import generate_step
    from mlx_lm.utils import load_model

    handler = _load(smollm2)
    first, again = (_answer(handler, ticket) for ticket in range(2))
    handler.close()
    assert (first.cached_tokens, again.cached_tokens) == (0, len(first.prompt) - 1)
    assert first.emitted == again.emitted
    model, _ = load_model(smollm2)
    model.set_dtype(mx.float32)
    steps = generate_step(mx.array(first.prompt), model, max_tokens=8, kv_bits=8, kv_group_size=64)
    assert first.emitted == [int(token) for token, _ in steps]
    packed, scales = 1, 2 * 4 / 64
    assert footprint(model, kv_bits=8).per_token == footprint(model).per_token * (packed + scales) / 4


@pytest.mark.parametrize(
    ("architecture", "more", "reason"),
    [
        ("llama", {}, "this model's cache can't be quantised"),
        ("mamba", {}, "nothing that can be quantised"),
        ("llama", {"draft_model": "any"}, "--draft-model exclude each other"),
        ("llama", {"prompt_cache_dir": "any"}, "--prompt-cache-dir exclude each other"),
    ],
    ids=["heads-too-narrow", "no-kv-states", "draft", "on-disk"],
)
def test_what_can_not_be_is_refused_at_the_start(
    tiny_model: Callable[[str], Path], architecture: str, more: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        _load(tiny_model(architecture), **more)
