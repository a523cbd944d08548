"""Language models with adapters and a draft: what is refused at the start, and a request through all of it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.tiny.adapters import make_adapter
from support.tiny.draft_heads import KINDS, Kind, make_easy, make_head, make_own_head

from mlx_server.app.config.settings import ModelSettings
from mlx_server.app.fleet.memory import serving_of
from mlx_server.app.fleet.memory_estimate import token_bytes
from mlx_server.schemas.internal.generation import Draft, GenerationRequest, Sampling, TextPrompt
from mlx_server.schemas.internal.messages import Finished, Load, ModelFacts, Text
from mlx_server.workers.engine.sequence import Token
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.handlers.lm import LanguageHandler

pytestmark = pytest.mark.model
Tiny = Callable[[str], Path]


def _load(handler: LanguageHandler, folder: Path, **more: Any) -> ModelFacts:
    spec = Load(str(folder), "lm", 4, 512, "/dev/null/nowhere", **{name: str(value) for name, value in more.items()})
    return handler.load(spec, lambda _: None)


def _refusal(folder: Path, **more: Any) -> str:
    with pytest.raises(ModelLoadError) as caught:
        _load(LanguageHandler(), folder, **more)
    message = str(caught.value)
    assert "\n" not in message
    return message


def _answer(
    handler: LanguageHandler,
    adapter: str | None = None,
    draft: Draft | None = None,
    prompt: str = "the quick brown",
) -> tuple[str, Finished]:
    request = GenerationRequest(
        (TextPrompt(prompt),), 12, sampling=Sampling(temperature=0.0), adapter=adapter, draft=draft
    )
    [sequence] = handler.prepare(1, request)
    stream = handler.answer_stream(sequence)
    handler.engine.add(sequence)
    text = ""
    while handler.engine.busy:
        for item in handler.engine.step():
            assert isinstance(item, Token)
            text += "".join(part.text for part in stream.add(item) if isinstance(part, Text))
    return text, stream.finished()


def test_adapters_and_a_draft_go_through_every_part_of_the_handler(tiny_model: Tiny, tmp_path: Path) -> None:
    folder = tiny_model("llama")
    for seed, name in enumerate(("a", "default")):
        make_adapter(folder, tmp_path / name, seed)
    handler = LanguageHandler()
    flags = {"adapter_path": tmp_path / "default", "adapter_dir": tmp_path, "draft_model": folder}
    facts = _load(handler, folder, **flags, speculate="off")
    assert any("proposes tokens" in note for note in facts.notes)
    texts = {name: _answer(handler, name)[0] for name in (None, "none", "a", "default")}
    assert texts[None] == texts["default"]
    assert len(set(texts.values())) == 3
    for name in (None, "none", "a"):
        text, finished = _answer(handler, name, Draft(None, 3))
        assert text == texts[name]
        assert 0 <= finished.accepted_tokens <= finished.drafted_tokens
        assert (finished.accepted_tokens == finished.drafted_tokens > 0) is (name == "none")
    assert _answer(handler, "none", Draft("none"))[1].drafted_tokens == 0
    handler.close()


def test_a_default_adapter_that_can_not_be_used_is_refused_at_the_start(tiny_model: Tiny, tmp_path: Path) -> None:
    assert "the default adapter can't be used" in _refusal(tiny_model("llama"), adapter_path=tmp_path / "nonesuch")


def test_an_adapter_for_another_model_is_refused_at_the_start(tiny_model: Tiny, smollm2: Path, tmp_path: Path) -> None:
    adapter = make_adapter(smollm2, tmp_path / "a", 0)
    message = _refusal(tiny_model("llama"), adapter_path=adapter)
    assert "the default adapter can't be used" in message
    assert "not an adapter parameter in the model" in message


def test_a_model_that_can_not_forget_takes_no_draft(tiny_model: Tiny) -> None:
    refusal = _refusal(tiny_model("mamba"), draft_model=tiny_model("llama"))
    assert re.fullmatch("--draft-model is no use here: its log-probabilities differ by .* at once", refusal)
    refusal = _refusal(tiny_model("llama"), draft_model=tiny_model("mamba"))
    assert refusal == f"{tiny_model('mamba')} can't be a draft model: its cache can't forget single tokens"


def test_a_model_with_sliding_windows_takes_a_draft_with_some(tiny_model: Tiny) -> None:
    handler = LanguageHandler()
    facts = _load(handler, tiny_model("gemma3_text"), draft_model=tiny_model("gemma3_text"))
    assert "KV states of 1 sliding windows are kept whole, so that drafts can be taken back" in facts.notes
    text, finished = _answer(handler, draft=Draft(tokens=3))
    assert finished.drafted_tokens == finished.accepted_tokens > 0
    handler.close()
    handler = LanguageHandler()
    assert not any("windows" in note for note in _load(handler, tiny_model("gemma3_text")).notes)
    assert _answer(handler)[0] == text
    handler.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_goes_through_every_part_of_the_handler(tmp_path: Path, kind: Kind) -> None:
    model = make_easy(tmp_path)
    plain, handler = LanguageHandler(), LanguageHandler()
    _load(plain, model)
    facts = _load(handler, model, draft_model=make_head(tmp_path / kind, kind, model))
    assert f"hidden states are kept beside KV states, for {kind}" in facts.notes
    prompt = "the quick brown fox jumps over " * 20
    for draft in (None, Draft(tokens=3), Draft("none")):
        text, finished = _answer(handler, draft=draft, prompt=prompt)
        assert text == _answer(plain, prompt=prompt)[0]
        assert finished.drafted_tokens > 0 or draft is None or draft.model
    assert finished.cached_tokens > 64
    plain.close()
    handler.close()


def test_a_model_that_is_named_as_its_own_draft_uses_its_own_head(tmp_path: Path) -> None:
    model = make_own_head(tmp_path)
    plain, handler = LanguageHandler(), LanguageHandler()
    _load(plain, model)
    facts = _load(handler, model, draft_model=model)
    assert f"hidden states are kept beside KV states, for {model.name}" in facts.notes
    text, finished = _answer(handler, draft=Draft(tokens=2))
    assert text == _answer(plain)[0]
    assert finished.drafted_tokens >= finished.accepted_tokens > 3
    [head] = serving_of(ModelSettings(str(model), draft_model=str(model)), "lm").drafts
    hidden = handler._size.per_token - plain._size.per_token
    own = 2 * 4 * 16 * 4  # keys and values of its one layer: 4 heads of 16 numbers in float32
    assert (head.weight_bytes, token_bytes(head, wide=True)) == (0, hidden + own)
    plain.close()
    handler.close()


def test_a_head_for_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    model = make_easy(tmp_path)
    head = make_head(tmp_path / "head", "eagle3", model)
    config = json.loads((head / "config.json").read_text())
    (head / "config.json").write_text(json.dumps({**config, "target_layer_ids": [1, 2, 40]}))
    assert _refusal(model, draft_model=head).startswith(f"{head} can't draft for this model: ")
    (head / "config.json").write_text(json.dumps({**config, "model_file": "own.py"}))
    says = "its model_file names code of its own, which is never run."
    assert _refusal(model, draft_model=head) == f"{head} can't be served: {says}"


def test_a_draft_with_another_vocabulary_is_refused_at_the_start(tiny_model: Tiny, smollm2: Path) -> None:
    message = _refusal(tiny_model("llama"), draft_model=smollm2)
    assert message.startswith(f"{smollm2} can't be this model's draft: their vocabularies differ (token 0 is ")


def test_a_draft_that_knows_more_tokens_is_taken(tiny_model: Tiny, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "draft"
    shutil.copytree(tiny_model("llama"), folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    known = len(tokenizer["model"]["vocab"])
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "id": known, "content": "<more>"})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    _load(LanguageHandler(), tiny_model("llama"), draft_model=folder)


def test_a_draft_that_is_no_model_is_refused(tiny_model: Tiny, tmp_path: Path) -> None:
    assert "is not a model" in _refusal(tiny_model("llama"), draft_model=tmp_path)
