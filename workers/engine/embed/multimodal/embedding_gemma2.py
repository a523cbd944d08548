"""EmbeddingGemma 2: prompt, pictures and text stand one after the other; the mean of all tokens is the vector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_vlm.models.embedding_gemma2.image_processing_embedding_gemma2 import EmbeddingGemma2ImageProcessor

from mlx_server.schemas.internal.embedding import EmbeddingInput
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import TextPrompt
from mlx_server.workers.engine.embed.embedder import HiddenStates
from mlx_server.workers.engine.embed.inputs.input_texts import InputTexts
from mlx_server.workers.engine.embed.multimodal.building import build
from mlx_server.workers.engine.embed.multimodal.family import Family, SightedInputs
from mlx_server.workers.engine.embed.multimodal.image_inputs import blaming, picture_inputs, pictures_of
from mlx_server.workers.engine.embed.multimodal.states import mixed_states
from mlx_server.workers.engine.loading.json_file import read_json
from mlx_server.workers.engine.vision.inputs import MediaInputs


def build_model(folder: Path, config: dict[str, Any]) -> Any:
    """The model without the part that hears, which nothing is sent to."""
    return build("embedding_gemma2", folder, {**config, "audio_config": None})


def hidden_states(model: Any, tokenizer: Any) -> HiddenStates:
    """The states of texts and pictures."""
    return mixed_states(model, model.config.text_config.pad_token_id)


def read_inputs(folder: Path, model: Any, texts: InputTexts) -> SightedInputs:
    """What makes pixels and tokens of pictures; without a part that sees, the model takes texts only."""
    if model.vision_tower is None:
        return SightedInputs(None)
    config, processor = model.config, read_image_processor(folder)
    begin, mark, end = texts.pieces([config.boi_token_id, config.image_token_id, config.eoi_token_id])

    def read(given: EmbeddingInput, before: str, text: str) -> tuple[Sequence[int], MediaInputs]:
        if mark in before + text:
            raise InvalidRequest(f"{mark!r} marks a picture for this model and can't be text.", given.param)
        with blaming(given):
            made = processor.preprocess(pictures_of(given))
        shown = "".join(f"{begin}{mark * count}{end}" for count in made.pop("num_soft_tokens_per_image"))
        arrays = {name: mx.array(value) for name, value in made.items()}
        return texts.prompt(TextPrompt(f"{before}{shown}{text}")), MediaInputs(arrays, len(given.media), ())

    return SightedInputs(picture_inputs(read, texts, {config.audio_token_id, config.video_token_id}))


def read_image_processor(folder: Path) -> EmbeddingGemma2ImageProcessor:
    """That part of the processor; the whole one of mlx-vlm (0.7) does not work with Transformers 5.23."""
    file = folder / "processor_config.json"
    config = read_json(file) if file.is_file() else {}
    return EmbeddingGemma2ImageProcessor(**config.get("image_processor", {}))


EMBEDDING_GEMMA2 = Family(build_model, hidden_states, read_inputs, pooling="mean")
