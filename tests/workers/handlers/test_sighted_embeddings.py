"""Embedding models that look at pictures: what all families have in common."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.computing import Computing, close, embedding, scoring
from support.shown import GREY, HALVES, RED, TEXTS, refusal_of, shown, vectors_of
from support.tiny.sighted_models import make_embedding_gemma2, make_qwen3_vl, make_siglip

from mlx_server.schemas.internal.embedding import EmbeddingInput, EmbeddingRequest, Truncation
from mlx_server.schemas.internal.generation import Media
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.folders.encoder_types import SIGHTED

pytestmark = pytest.mark.model

MAKERS: dict[str, Callable[[Path], Path]] = {
    "qwen3_vl_embedding": make_qwen3_vl,
    "embedding_gemma2": make_embedding_gemma2,
    "siglip": make_siglip,
}
MARKS = {
    "qwen3_vl_embedding": ("<|image_pad|>", "<|video_pad|>"),
    "embedding_gemma2": ("<|image|>", "<|video|>", "<|audio|>"),
}
"""Those that take pictures among a text's tokens, and their tokens for media."""


@pytest.fixture(scope="module", params=MAKERS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Computing]:
    yield from _loaded(request.param, tmp_path_factory)


@pytest.fixture(scope="module", params=MARKS)
def mixed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Computing]:
    yield from _loaded(request.param, tmp_path_factory)


def _loaded(kind: str, folders: pytest.TempPathFactory) -> Iterator[Computing]:
    computing = Computing(MAKERS[kind](folders.mktemp(kind)))
    yield computing
    computing.handler.close()


def test_load_tells_what_the_model_looks_at(loaded: Computing) -> None:
    facts = loaded.facts
    assert facts.architecture in MAKERS
    assert facts.media == ("image",)
    assert facts.scoring == "embedding_similarity"
    assert facts.dimensions == loaded.vectors("the cat").shape[-1]


def test_texts_and_pictures_are_the_same_together_as_alone_and_in_order(loaded: Computing) -> None:
    inputs = [("the cat",), ("", RED), (TEXTS[1],), ("", HALVES), ("no",), ("", GREY), ("", RED)]
    together = vectors_of(loaded, *inputs)
    alone = [vectors_of(loaded, one)[0] for one in inputs]
    apart = [told.vectors[0] for told in loaded.ask(*(shown(one) for one in inputs))]
    assert close(together, alone, 1e-4)
    assert close(together, apart, 1e-4)
    assert close(together[1], together[6])
    distances = np.abs(together[:6, None] - together[None, :6]).max(axis=-1)
    assert distances[~np.eye(6, dtype=bool)].min() > 1e-3
    assert close(np.linalg.norm(together, axis=-1), 1)


def test_texts_are_the_same_whatever_was_looked_at_before(loaded: Computing) -> None:
    before = loaded.vectors(*TEXTS)
    vectors_of(loaded, ("", HALVES))
    assert close(loaded.vectors(*TEXTS), before)
    assert close(loaded.vectors(TEXTS[2]), before[2:3], 1e-4)


def test_scores_are_cosines(loaded: Computing) -> None:
    vectors = loaded.vectors(*TEXTS)
    scores = loaded.scores(*((TEXTS[0], text) for text in TEXTS))
    assert close(scores, vectors @ vectors[0], 1e-4)


def test_dimensions_cut_the_vectors_of_pictures_too(loaded: Computing) -> None:
    whole, cut = vectors_of(loaded, ("", RED))[0], vectors_of(loaded, ("", RED), dimensions=8)[0]
    assert close(cut, whole[:8] / np.linalg.norm(whole[:8]), 1e-4)


@pytest.mark.parametrize(
    ("request_", "param", "words"),
    [
        (shown(((5, 6), RED)), "input[0]", "token ids can't stand beside pictures"),
        (shown(("", RED), truncation=Truncation(100_000)), "truncate_prompt_tokens", "at most"),
        (
            EmbeddingRequest((EmbeddingInput("", "input[0]", (Media("image", b"none", 0, "input[0].image"),)),)),
            "input[0].image",
            "",
        ),
        (
            EmbeddingRequest((EmbeddingInput("", "input[0]", (Media("audio", b"", 0, "input[0].audio"),)),)),
            "input[0].audio",
            "no audio",
        ),
        (embedding("the cat " * 3000), "input[0]", "this model takes"),
        (scoring(("a", "b"), instruction="be fair"), "instruction", "rerankers"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(loaded: Computing, request_: Any, param: str, words: str) -> None:
    refusal = refusal_of(loaded, request_)
    assert refusal.param == param
    assert words in refusal.message


def test_pictures_and_texts_make_one_vector(mixed: Computing) -> None:
    inputs = [("the cat", RED), ("the dog", RED), ("the cat", HALVES), ("the cat", RED, HALVES), ("the cat",)]
    together = vectors_of(mixed, *inputs)
    assert close(together, [vectors_of(mixed, one)[0] for one in inputs], 1e-4)
    distances = np.abs(together[:, None] - together[None]).max(axis=-1)
    assert distances[~np.eye(len(inputs), dtype=bool)].min() > 1e-3


def test_usage_counts_the_tokens_of_pictures(mixed: Computing) -> None:
    inputs = [("the cat",), ("the cat", RED), ("the cat", RED, RED)]
    none, one, two = (told.finished for told in mixed.ask(*(shown(given) for given in inputs)))
    assert none is not None
    assert one is not None
    assert two is not None
    assert one.prompt_tokens - none.prompt_tokens == two.prompt_tokens - one.prompt_tokens > 4


def test_pictures_that_were_looked_at_are_counted(loaded: Computing) -> None:
    [told] = loaded.ask(shown(("", RED), ("", HALVES), ("the cat",)))
    assert told.finished is not None
    assert (told.finished.encoded_media, told.finished.cached_media) == (2, 0)


def test_a_text_that_cannot_fit_beside_a_picture_is_refused_by_its_characters(mixed: Computing) -> None:
    refusal = refusal_of(mixed, shown(("the cat " * 1_000_000, RED), truncation=Truncation()))
    assert (refusal.param, refusal.code) == ("input[0]", "context_length_exceeded")
    assert "has 8000000 characters" in refusal.message


def test_what_has_pictures_is_never_cut(mixed: Computing) -> None:
    [told] = mixed.ask(shown(("the cat", RED)))
    assert told.finished is not None
    tokens = told.finished.prompt_tokens
    assert len(vectors_of(mixed, ("the cat", RED), truncation=Truncation(tokens))) == 1
    refusal = refusal_of(mixed, shown(("the cat", RED), truncation=Truncation(tokens - 1)))
    assert (refusal.param, refusal.code) == ("input[0]", "context_length_exceeded")
    assert f"has {tokens} tokens" in refusal.message


def test_marks_for_media_are_no_text_beside_pictures(mixed: Computing) -> None:
    for mark in MARKS[mixed.facts.architecture]:
        assert refusal_of(mixed, shown((f"the {mark} cat", RED))).param == "input[0]"
        assert np.isfinite(mixed.vectors(f"the {mark} cat")).all()


def test_families_are_those_that_are_told_by_their_names() -> None:
    from mlx_server.workers.engine.embed.multimodal.families import FAMILIES

    assert set(SIGHTED) == set(FAMILIES)


@pytest.mark.parametrize("kind", ["colqwen2_5", "colidefics3", "colpali"])
def test_models_with_a_vector_for_each_token_are_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ModelLoadError, match="late interaction"):
        Computing(tmp_path)


@pytest.mark.parametrize("kind", MAKERS)
def test_models_that_want_their_own_code_to_run_are_refused(tmp_path: Path, kind: str) -> None:
    folder = MAKERS[kind](tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "own.Model"}}))
    with pytest.raises(ModelLoadError, match="never run"):
        Computing(folder)


@pytest.mark.parametrize("kind", MAKERS)
def test_models_without_all_their_weights_are_refused(tmp_path: Path, kind: str) -> None:
    import mlx.core as mx

    folder = MAKERS[kind](tmp_path)
    weights: Any = mx.load(str(folder / "model.safetensors"))
    del weights[next(name for name in sorted(weights) if "vis" in name)]
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    with pytest.raises(ModelLoadError, match="can't be loaded"):
        Computing(folder)


@pytest.mark.parametrize("kind", MAKERS)
def test_code_beside_a_processor_is_never_run(tmp_path: Path, kind: str) -> None:
    folder = MAKERS[kind](tmp_path)
    (folder / "own.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\nclass Own: pass\n")
    code = {"AutoProcessor": "own.Own", "AutoTokenizer": ["own.Own", "own.Own"], "AutoImageProcessor": "own.Own"}
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        file = folder / name
        content = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(content | {"auto_map": code}))
    with contextlib.suppress(ModelLoadError):
        Computing(folder).handler.close()
    assert not (tmp_path / "run").exists()
