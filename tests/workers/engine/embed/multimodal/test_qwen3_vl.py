"""Qwen3-VL-Embedding against mlx-vlm's own class, asked as its authors ask it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support.computing import Computing, close, cosines, embedding
from support.shown import HALVES, RED, TEXTS, refusal_of, vectors_of
from support.tiny.sighted_models import make_qwen3_vl

from mlx_server.schemas.internal.embedding import Truncation

pytestmark = pytest.mark.model


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
    vectors = vectors_of(computing, ("red",), ("", RED), ("blue", HALVES, RED), ("",))
    assert cosines(vectors, expected).min() > 0.9999


@pytest.mark.parametrize(("prompt", "instruction"), [("Find it", "Find it."), (" Which one? ", "Which one?")])
def test_a_prompt_is_the_instruction_of_a_qwen(qwen: tuple[Computing, Any, Any], prompt: str, instruction: str) -> None:
    computing, model, processor = qwen
    expected = [
        _directly(model, processor, _conversation("red", 0, instruction)),
        _directly(model, processor, _conversation("red", 1, instruction), HALVES),
    ]
    vectors = vectors_of(computing, ("red",), ("red", HALVES), prompt=prompt)
    assert cosines(vectors, expected).min() > 0.9999
    assert np.abs(vectors - vectors_of(computing, ("red",), ("red", HALVES))).max() > 1e-3


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
    assert "larger than" in refusal_of(computing, whole).message


def test_a_chat_model_of_the_family_embeds_as_the_embedding_model_does(
    qwen: tuple[Computing, Any, Any], tmp_path: Path
) -> None:
    other = Computing(make_qwen3_vl(tmp_path / "chat", model_type="qwen3_vl"))
    assert close(other.vectors(*TEXTS), qwen[0].vectors(*TEXTS))
    other.handler.close()
