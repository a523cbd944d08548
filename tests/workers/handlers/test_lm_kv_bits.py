"""KV states of few bits, as a model is loaded with them: mlx-lm's own, batched, kept; or an honest refusal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.tiny.models import make_model

from mlx_server.schemas.internal.generation import Draft, GenerationRequest, Sampling, TextPrompt
from mlx_server.schemas.internal.messages import Load, ModelFacts
from mlx_server.schemas.internal.state_bits import StateBits
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.handlers.lm import LanguageHandler

pytestmark = pytest.mark.model

TEXT = TextPrompt("The capital of France is Paris, that of Spain is Madrid, and the capital of Italy is")


def _load(folder: Path, bits: str = "8", **more: Any) -> tuple[LanguageHandler, ModelFacts]:
    handler = LanguageHandler()
    spec = Load(str(folder), "lm", 4, 512, "/dev/null/nowhere", kv_bits=StateBits.parse(bits), **more)
    return handler, handler.load(spec, lambda _: None)


def _answer(handler: LanguageHandler, ticket: int, **more: Any) -> Sequence:
    [sequence] = handler.prepare(ticket, GenerationRequest((TEXT,), 8, sampling=Sampling(temperature=0.0), **more))
    handler.engine.add(sequence)
    while handler.engine.busy:
        handler.engine.step()
    return sequence


def test_quantised_states_give_what_mlx_lm_gives_with_them(smollm2: Path, tmp_path: Path) -> None:
    import mlx.core as mx
    from mlx_lm.generate import generate_step
    from mlx_lm.models.cache import QuantizedKVCache
    from mlx_lm.utils import load_model

    handler, facts = _load(smollm2, prompt_cache_dir=str(tmp_path))
    assert facts.rows == 4
    assert facts.notes == ("--kv-bits 8: KV states of 30 layers are quantised",)
    first, again = (_answer(handler, ticket) for ticket in range(2))
    handler.close()
    assert (first.cached_tokens, again.cached_tokens) == (0, len(first.prompt) - 1)
    assert first.emitted == again.emitted
    model, _ = load_model(smollm2)
    model.set_dtype(mx.float32)
    cache = [QuantizedKVCache(64, 8) for _ in model.layers]
    steps = generate_step(mx.array(first.prompt), model, max_tokens=8, prompt_cache=cache)
    assert first.emitted == [int(token) for token, _ in steps]


def test_a_draft_model_proposes_beside_them(tmp_path: Path) -> None:
    folder = make_model(tmp_path, "llama", head_dim=32)
    handler, _ = _load(folder, draft_model=str(folder))
    plain, proposed = _answer(handler, 0), _answer(handler, 1, draft=Draft(tokens=3))
    handler.close()
    assert plain.emitted == proposed.emitted
    assert proposed.accepted > 0


def test_layers_that_can_not_be_quantised_are_counted(tmp_path: Path) -> None:
    handler, facts = _load(make_model(tmp_path, "qwen3_next", head_dim=32, num_hidden_layers=4), "4,8")
    handler.close()
    assert (
        "--kv-bits 4,8: KV states of 2 layers are quantised; 2 layers of another kind stay as they are" in facts.notes
    )


def test_bits_of_another_number_of_layers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"--kv-bits 4x3,8 is for 4 layers, and this model has 2 to be quantised"):
        _load(make_model(tmp_path, "qwen3_next", head_dim=32, num_hidden_layers=4), "4x3,8")


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("llama", "heads of 16 numbers can't be divided into groups of 64 or 32"),
        ("mamba", "nothing that can be quantised"),
    ],
    ids=["heads-too-narrow", "no-kv-states"],
)
def test_what_can_not_be_is_refused_at_the_start(
    tiny_model: Callable[[str], Path], architecture: str, reason: str
) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        _load(tiny_model(architecture))
