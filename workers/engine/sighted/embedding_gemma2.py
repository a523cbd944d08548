"""EmbeddingGemma 2: prompt, pictures and text stand one after the other; the mean of all tokens is the vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlx_server.workers.engine.embedder import HiddenStates
from mlx_server.workers.engine.input_texts import InputTexts
from mlx_server.workers.engine.pictures import PictureReader
from mlx_server.workers.engine.sighted.building import build
from mlx_server.workers.engine.sighted.family import Family, SightedInputs
from mlx_server.workers.engine.sighted.processors import read_processor
from mlx_server.workers.engine.sighted.shown import shown_inputs
from mlx_server.workers.engine.sighted.states import mixed_states
from mlx_server.workers.engine.vision.inputs import InputReader


def build_model(folder: Path, config: dict[str, Any]) -> Any:
    """The model without the part that hears, which nothing is sent to."""
    return build("embedding_gemma2", folder, {**config, "audio_config": None})


def hidden_states(model: Any, tokenizer: Any) -> HiddenStates:
    """The states of texts and pictures."""
    return mixed_states(model, model.config.text_config.pad_token_id)


def read_inputs(folder: Path, model: Any, texts: InputTexts, pictures: PictureReader) -> SightedInputs:
    """The processor; without a part that sees, the model takes texts only."""
    if model.vision_tower is None:
        return SightedInputs(None)
    processor = read_processor(folder)
    reader = InputReader(processor, model.config, {model.config.image_token_id}, pictures)

    def show(prompt: str, text: str, count: int) -> str:
        return prompt + processor.image_token * count + text

    return SightedInputs(shown_inputs(reader, texts, show))


EMBEDDING_GEMMA2 = Family(build_model, hidden_states, read_inputs, pooling="mean", most_tokens=32_768)
