"""EmbeddingGemma 2 against mlx-vlm's own class."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.computing import Computing, cosines
from support.shown import GREY, HALVES, RED, TEXTS, refusal_of, shown, vectors_of
from support.tiny.sighted_models import make_embedding_gemma2

pytestmark = pytest.mark.model


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
    vectors = vectors_of(computing, ("the cat", HALVES, GREY), (TEXTS[1],))
    assert cosines(vectors, np.concatenate([np.array(seen), np.array(read)])).min() > 0.9999
    computing.handler.close()


def test_prompts_stand_before_the_pictures_of_a_gemma(tmp_path: Path) -> None:
    computing = Computing(make_embedding_gemma2(tmp_path))
    prompted = computing.prepare(1, shown(("the cat", RED), prompt="big dog "))[0].items[0].ids
    bare = computing.prepare(1, shown(("the cat", RED)))[0].items[0].ids
    before = computing.ids("big dog")[1:-1]
    assert list(prompted) == [bare[0], *before, *bare[1:]]
    computing.handler.close()


def test_a_gemma_without_the_part_that_sees_takes_texts(tmp_path: Path) -> None:
    computing = Computing(make_embedding_gemma2(tmp_path, sees=False))
    assert computing.facts.media == ()
    assert len(computing.vectors(*TEXTS)) == len(TEXTS)
    assert refusal_of(computing, shown(("", RED))).param == "input[0].image"
    computing.handler.close()
