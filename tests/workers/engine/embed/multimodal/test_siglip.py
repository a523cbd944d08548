"""SigLIP's towers: texts against mlx-vlm's own class, pictures against the published formulas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.computing import Computing, close, cosines, embedding
from support.shown import GREY, HALVES, RED, TEXTS, refusal_of, shown, vectors_of
from support.tiny.numpy_siglip import NumpySiglip
from support.tiny.sighted_models import make_siglip, write_siglip_words

from mlx_server.schemas.internal.embedding import Truncation

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Computing]:
    computing = Computing(make_siglip(tmp_path_factory.mktemp("siglip")))
    yield computing
    computing.handler.close()


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
    vectors = vectors_of(siglip, *(("", one) for one in pictures))
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
        refusal = refusal_of(siglip, shown(given))
        assert refusal.param == "input[0]"
        assert "a text or of one picture" in refusal.message


def test_a_siglip_reads_lower_case(siglip: Computing) -> None:
    assert close(siglip.vectors("The CAT"), siglip.vectors("the cat"))


def test_usage_counts_the_patches_that_a_siglip_sees(siglip: Computing) -> None:
    [told] = siglip.ask(shown(("", RED), ("the cat",)))
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
    assert close(vectors_of(other, ("", RED), ("cat",)), vectors_of(siglip, ("", RED), ("cat",)))
    other.handler.close()
