"""Embedding models that look at pictures: all families alike, and each against mlx-vlm's own class."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support.computing import Computing, close, cosines, embedding, scoring
from support.numpy_siglip import NumpySiglip
from support.pictures import halves, picture_file, plain
from support.sighted_models import make_embedding_gemma2, make_qwen3_vl, make_siglip, write_siglip_words

from mlx_server.schemas.embedding import EmbeddingInput, EmbeddingRequest, Truncation
from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import Media
from mlx_server.workers.handlers.base import ModelLoadError

pytestmark = pytest.mark.model

TEXTS = ("the cat", "a big red bird sees the small blue fish", "no", "a dog ran on the log")
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

RED, HALVES, GREY = plain("red", (64, 64)), halves(), plain((90, 90, 90), (120, 40))


@pytest.fixture(scope="module", params=MAKERS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Computing]:
    yield from _loaded(request.param, tmp_path_factory)


@pytest.fixture(scope="module", params=MARKS)
def mixed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Computing]:
    yield from _loaded(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Computing]:
    yield from _loaded("siglip", tmp_path_factory)


def _loaded(kind: str, folders: pytest.TempPathFactory) -> Iterator[Computing]:
    computing = Computing(MAKERS[kind](folders.mktemp(kind)))
    yield computing
    computing.handler.close()


def _given(number: int, text: str | tuple[int, ...], *pictures: Image.Image) -> EmbeddingInput:
    param = f"input[{number}]"
    media = (Media("image", picture_file(picture), 0, f"{param}.image") for picture in pictures)
    return EmbeddingInput(text, param, tuple(media))


def _request(*inputs: tuple[Any, ...], **how: Any) -> EmbeddingRequest:
    """Each input is a text and its pictures."""
    return EmbeddingRequest(tuple(_given(number, *one) for number, one in enumerate(inputs)), **how)


def _vectors(computing: Computing, *inputs: tuple[Any, ...], **how: Any) -> npt.NDArray[np.float32]:
    return computing.ask(_request(*inputs, **how))[0].vectors


def _refusal(computing: Computing, request: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        computing.handler.prepare(1, request)
    return caught.value


# --- all families ---


def test_load_tells_what_the_model_looks_at(loaded: Computing) -> None:
    facts = loaded.facts
    assert facts.architecture in MAKERS
    assert facts.media == ("image",)
    assert facts.scoring == "embedding_similarity"
    assert facts.dimensions == loaded.vectors("the cat").shape[-1]


def test_texts_and_pictures_are_the_same_together_as_alone_and_in_order(loaded: Computing) -> None:
    inputs = [("the cat",), ("", RED), (TEXTS[1],), ("", HALVES), ("no",), ("", GREY), ("", RED)]
    together = _vectors(loaded, *inputs)
    alone = [_vectors(loaded, one)[0] for one in inputs]
    apart = [told.vectors[0] for told in loaded.ask(*(_request(one) for one in inputs))]
    assert close(together, alone, 1e-4)
    assert close(together, apart, 1e-4)
    assert close(together[1], together[6])
    distances = np.abs(together[:6, None] - together[None, :6]).max(axis=-1)
    assert distances[~np.eye(6, dtype=bool)].min() > 1e-3
    assert close(np.linalg.norm(together, axis=-1), 1)


def test_texts_are_the_same_whatever_was_looked_at_before(loaded: Computing) -> None:
    before = loaded.vectors(*TEXTS)
    _vectors(loaded, ("", HALVES))
    assert close(loaded.vectors(*TEXTS), before)
    assert close(loaded.vectors(TEXTS[2]), before[2:3], 1e-4)


def test_scores_are_cosines(loaded: Computing) -> None:
    vectors = loaded.vectors(*TEXTS)
    scores = loaded.scores(*((TEXTS[0], text) for text in TEXTS))
    assert close(scores, vectors @ vectors[0], 1e-4)


def test_dimensions_cut_the_vectors_of_pictures_too(loaded: Computing) -> None:
    whole, cut = _vectors(loaded, ("", RED))[0], _vectors(loaded, ("", RED), dimensions=8)[0]
    assert close(cut, whole[:8] / np.linalg.norm(whole[:8]), 1e-4)


@pytest.mark.parametrize(
    ("request_", "param", "words"),
    [
        (_request(((5, 6), RED)), "input[0]", "token ids can't stand beside pictures"),
        (_request(("", RED), truncation=Truncation(100_000)), "truncate_prompt_tokens", "at most"),
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
    refusal = _refusal(loaded, request_)
    assert refusal.param == param
    assert words in refusal.message


# --- those that take pictures among a text's tokens ---


def test_pictures_and_texts_make_one_vector(mixed: Computing) -> None:
    inputs = [("the cat", RED), ("the dog", RED), ("the cat", HALVES), ("the cat", RED, HALVES), ("the cat",)]
    together = _vectors(mixed, *inputs)
    assert close(together, [_vectors(mixed, one)[0] for one in inputs], 1e-4)
    distances = np.abs(together[:, None] - together[None]).max(axis=-1)
    assert distances[~np.eye(len(inputs), dtype=bool)].min() > 1e-3


def test_usage_counts_the_tokens_of_pictures(mixed: Computing) -> None:
    inputs = [("the cat",), ("the cat", RED), ("the cat", RED, RED)]
    none, one, two = (told.finished for told in mixed.ask(*(_request(given) for given in inputs)))
    assert none is not None
    assert one is not None
    assert two is not None
    assert one.prompt_tokens - none.prompt_tokens == two.prompt_tokens - one.prompt_tokens > 4


def test_what_has_pictures_is_never_cut(mixed: Computing) -> None:
    [told] = mixed.ask(_request(("the cat", RED)))
    assert told.finished is not None
    tokens = told.finished.prompt_tokens
    assert len(_vectors(mixed, ("the cat", RED), truncation=Truncation(tokens))) == 1
    refusal = _refusal(mixed, _request(("the cat", RED), truncation=Truncation(tokens - 1)))
    assert (refusal.param, refusal.code) == ("input[0]", "context_length_exceeded")
    assert f"has {tokens} tokens" in refusal.message


def test_marks_for_media_are_no_text_beside_pictures(mixed: Computing) -> None:
    for mark in MARKS[mixed.facts.architecture]:
        assert _refusal(mixed, _request((f"the {mark} cat", RED))).param == "input[0]"
        assert np.isfinite(mixed.vectors(f"the {mark} cat")).all()


# --- Qwen3-VL-Embedding ---


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Computing, Any, Any]]:
    """The handler, and mlx-vlm's own model and processor."""
    import mlx.core as mx
    from mlx_vlm.embedding_loader import load_embedding_model
    from mlx_vlm.utils import load_processor

    folder = make_qwen3_vl(tmp_path_factory.mktemp("qwen"))
    computing = Computing(folder)
    model = load_embedding_model(folder)
    model.set_dtype(mx.float32)
    processor = load_processor(folder, add_detokenizer=False)
    processor.image_processor.min_pixels = 4 * 16 * 16
    processor.image_processor.max_pixels = 1800 * 16 * 16
    yield computing, model, processor
    computing.handler.close()


def _conversation(text: str, pictures: int = 0, instruction: str = "Represent the user's input.") -> str:
    shown = "<|vision_start|><|image_pad|><|vision_end|>" * pictures
    return (
        f"<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n{shown}{text}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def _directly(model: Any, processor: Any, text: str, *pictures: Image.Image) -> npt.NDArray[np.float32]:
    import mlx.core as mx

    inputs = processor(text=[text], images=list(pictures) or None, return_tensors="np")
    model.language_model._position_ids = None
    out = model(**{name: mx.array(value) for name, value in inputs.items()})
    return np.array(out.text_embeds[0])


def test_a_qwen_is_asked_in_its_authors_format(qwen: tuple[Computing, Any, Any]) -> None:
    computing, model, processor = qwen
    expected = [
        _directly(model, processor, _conversation("red")),
        _directly(model, processor, _conversation("", 1), RED),
        _directly(model, processor, _conversation("blue", 2), HALVES, RED),
        _directly(model, processor, _conversation("NULL")),
    ]
    vectors = _vectors(computing, ("red",), ("", RED), ("blue", HALVES, RED), ("",))
    assert cosines(vectors, expected).min() > 0.9999


@pytest.mark.parametrize(("prompt", "instruction"), [("Find it", "Find it."), (" Which one? ", "Which one?")])
def test_a_prompt_is_the_instruction_of_a_qwen(qwen: tuple[Computing, Any, Any], prompt: str, instruction: str) -> None:
    computing, model, processor = qwen
    expected = [
        _directly(model, processor, _conversation("red", 0, instruction)),
        _directly(model, processor, _conversation("red", 1, instruction), HALVES),
    ]
    vectors = _vectors(computing, ("red",), ("red", HALVES), prompt=prompt)
    assert cosines(vectors, expected).min() > 0.9999
    assert np.abs(vectors - _vectors(computing, ("red",), ("red", HALVES))).max() > 1e-3


@pytest.mark.parametrize("keep", ["start", "end"])
def test_only_the_text_of_a_conversation_is_cut(
    qwen: tuple[Computing, Any, Any], keep: Literal["start", "end"]
) -> None:
    computing, _, processor = qwen
    head, tail = (processor.tokenizer(part).input_ids for part in _conversation("SPLIT").split("SPLIT"))
    words = processor.tokenizer("abcdefgh" * 8).input_ids
    assert computing.ids("abcdefgh" * 8) == [*head, *words, *tail]
    truncation = Truncation(len(head) + 5 + len(tail), keep)
    [sequence] = computing.handler.prepare(1, embedding("abcdefgh" * 8, truncation=truncation))
    assert list(sequence.items[0].ids) == [*head, *(words[:5] if keep == "start" else words[-5:]), *tail]
    whole = embedding("abcdefgh", truncation=Truncation(len(head) + len(tail)))
    assert "larger than" in _refusal(computing, whole).message


def test_a_chat_model_of_the_family_embeds_as_the_embedding_model_does(
    qwen: tuple[Computing, Any, Any], tmp_path: Path
) -> None:
    other = Computing(make_qwen3_vl(tmp_path / "chat", model_type="qwen3_vl"))
    assert close(other.vectors(*TEXTS), qwen[0].vectors(*TEXTS))
    other.handler.close()


# --- EmbeddingGemma 2 ---


def test_a_gemma_sees_what_mlx_vlms_own_does(tmp_path: Path) -> None:
    import mlx.core as mx
    from mlx_vlm.embedding_loader import load_embedding_model
    from mlx_vlm.models.embedding_gemma2.image_processing_embedding_gemma2 import EmbeddingGemma2ImageProcessor

    folder = make_embedding_gemma2(tmp_path)
    computing, model = Computing(folder), load_embedding_model(folder)
    config = json.loads((folder / "config.json").read_text())
    pixels = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    made = EmbeddingGemma2ImageProcessor(**pixels).preprocess([HALVES, GREY])
    arrays = {name: mx.array(made[name]) for name in ("pixel_values", "image_position_ids")}
    marks = [
        id_
        for count in made["num_soft_tokens_per_image"]
        for id_ in (config["boi_token_id"], *[config["image_token_id"]] * count, config["eoi_token_id"])
    ]
    begin, *words, end = computing.ids("the cat")
    seen = model(mx.array([[begin, *marks, *words, end]]), **arrays).text_embeds
    read = model(mx.array([computing.ids(TEXTS[1])])).text_embeds
    vectors = _vectors(computing, ("the cat", HALVES, GREY), (TEXTS[1],))
    assert cosines(vectors, np.concatenate([np.array(seen), np.array(read)])).min() > 0.9999
    computing.handler.close()


def test_prompts_stand_before_the_pictures_of_a_gemma(tmp_path: Path) -> None:
    computing = Computing(make_embedding_gemma2(tmp_path))
    prompted = computing.handler.prepare(1, _request(("the cat", RED), prompt="big dog "))[0].items[0].ids
    bare = computing.handler.prepare(1, _request(("the cat", RED)))[0].items[0].ids
    before = computing.ids("big dog")[1:-1]
    assert list(prompted) == [bare[0], *before, *bare[1:]]
    computing.handler.close()


def test_a_gemma_without_the_part_that_sees_takes_texts(tmp_path: Path) -> None:
    computing = Computing(make_embedding_gemma2(tmp_path, sees=False))
    assert computing.facts.media == ()
    assert len(computing.vectors(*TEXTS)) == len(TEXTS)
    assert _refusal(computing, _request(("", RED))).param == "input[0].image"
    computing.handler.close()


# --- SigLIP ---


def test_texts_of_a_siglip_are_padded_as_it_was_trained(siglip: Computing) -> None:
    import mlx.core as mx
    from mlx_vlm.embedding_loader import load_embedding_model

    folder = siglip.folder
    model = load_embedding_model(folder)
    ids = [siglip.ids(text) for text in TEXTS]
    expected = model(mx.array([[*some, *[1] * (16 - len(some))] for some in ids])).text_embeds
    assert cosines(siglip.vectors(*TEXTS), np.array(expected)).min() > 0.9999


def test_pictures_of_a_siglip_are_those_of_an_independent_one(siglip: Computing) -> None:
    reference = NumpySiglip(siglip.folder)
    pictures = (RED, HALVES, GREY)
    shrunk = [np.asarray(one.resize((32, 32), Image.Resampling.BICUBIC), np.float64) for one in pictures]
    expected = [reference.vector(one.transpose(2, 0, 1) / 127.5 - 1) for one in shrunk]
    vectors = _vectors(siglip, *(("", one) for one in pictures))
    assert cosines(vectors, expected).min() > 0.9999


def test_the_first_siglips_read_texts_without_their_punctuation(tmp_path: Path) -> None:
    import mlx.core as mx
    from mlx_vlm.embedding_loader import load_embedding_model
    from transformers import AutoTokenizer

    folder = make_siglip(tmp_path, vocab_size=write_siglip_words(tmp_path))
    computing, model, tokenizer = Computing(folder), load_embedding_model(folder), AutoTokenizer.from_pretrained(folder)
    padded = tokenizer(["the cat sat", "a dog"], padding="max_length", max_length=16, return_tensors="np").input_ids
    assert padded[0, -1] == 1, "the end stands for padding"
    expected = np.array(model(mx.array(padded)).text_embeds)
    assert cosines(computing.vectors("The cat, sat!", "a dog"), expected).min() > 0.9999
    whole = computing.ids("the cat sat")
    [sequence] = computing.handler.prepare(1, embedding("the cat sat", truncation=Truncation(4)))
    assert sequence.items[0].ids == (*whole[:3], 1)
    computing.handler.close()


def test_a_siglip_takes_a_text_or_one_picture(siglip: Computing) -> None:
    for given in (("the cat", RED), ("", RED, HALVES)):
        refusal = _refusal(siglip, _request(given))
        assert refusal.param == "input[0]"
        assert "a text or of one picture" in refusal.message


def test_a_siglip_reads_lower_case(siglip: Computing) -> None:
    assert close(siglip.vectors("The CAT"), siglip.vectors("the cat"))


def test_usage_counts_the_patches_that_a_siglip_sees(siglip: Computing) -> None:
    [told] = siglip.ask(_request(("", RED), ("the cat",)))
    assert told.finished is not None
    assert told.finished.prompt_tokens == 16 + 3


def test_a_siglip_as_mlxs_converters_store_it_is_the_same(siglip: Computing, tmp_path: Path) -> None:
    import mlx.core as mx

    folder = make_siglip(tmp_path)
    weights: Any = mx.load(str(folder / "model.safetensors"))
    kernel = "vision_model.embeddings.patch_embedding.weight"
    weights[kernel] = weights[kernel].transpose(0, 2, 3, 1)
    renamed = {
        f"{name.partition('.')[0]}.{name}".replace("in_proj_", "in_proj."): array for name, array in weights.items()
    }
    mx.save_safetensors(str(folder / "model.safetensors"), renamed)
    other = Computing(folder)
    assert close(_vectors(other, ("", RED), ("cat",)), _vectors(siglip, ("", RED), ("cat",)))
    other.handler.close()


# --- what is not served ---


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
