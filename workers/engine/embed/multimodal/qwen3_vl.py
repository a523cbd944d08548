"""Qwen3-VL-Embedding: a conversation whose system message is the instruction; the last token's state is the vector.

The format is that of https://arxiv.org/abs/2601.04720 and of its authors' code.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlx_server.schemas.internal.embedding import EmbeddingInput
from mlx_server.workers.engine.embed.embedder import HiddenStates
from mlx_server.workers.engine.embed.inputs.framed_text import FramedText
from mlx_server.workers.engine.embed.inputs.input_texts import InputTexts
from mlx_server.workers.engine.embed.multimodal.building import build
from mlx_server.workers.engine.embed.multimodal.family import Family, SightedInputs
from mlx_server.workers.engine.embed.multimodal.image_inputs import picture_inputs
from mlx_server.workers.engine.embed.multimodal.processors import read_processor
from mlx_server.workers.engine.embed.multimodal.states import mixed_states
from mlx_server.workers.engine.vision.inputs import InputReader, MediaInputs

INSTRUCTION = "Represent the user's input."
NOTHING = "NULL"
"""What stands for an empty input."""

PATCHES = (4, 1800)
"""The fewest and the most tokens that a picture is made to have; each is a few patches."""

PLACE = "\ue000"
"""Where a text goes in what the template renders."""


class Conversation:
    """What the model's own template makes of an instruction and an input."""

    def __init__(self, tokenizer: Any, template: str) -> None:
        self._tokenizer = tokenizer
        self._template = template
        # A request has one prompt and may have thousands of texts.
        self._render = lru_cache(maxsize=8)(self._rendered)
        if PLACE not in self._render("", 0):
            raise ValueError("its chat template leaves out what the user says")

    def frame(self, prompt: str, text: str) -> FramedText:
        """A text without pictures."""
        head, _, tail = self._render(prompt, 0).rpartition(PLACE)
        return FramedText(text or NOTHING, head, tail)

    def show(self, prompt: str, text: str, pictures: int) -> str:
        """Pictures and the text that follows them."""
        return text.join(self._render(prompt, pictures).rsplit(PLACE, 1))

    def _rendered(self, prompt: str, pictures: int) -> str:
        content = [*[{"type": "image"}] * pictures, {"type": "text", "text": PLACE}]
        messages = [
            {"role": "system", "content": [{"type": "text", "text": instruction(prompt)}]},
            {"role": "user", "content": content},
        ]
        return str(
            self._tokenizer.apply_chat_template(
                messages, chat_template=self._template, tokenize=False, add_generation_prompt=True
            )
        )


def instruction(prompt: str) -> str:
    """A prompt as the model learned them, with a full stop if it has none of its own; its default for an empty one."""
    prompt = prompt.strip() or INSTRUCTION
    return prompt if unicodedata.category(prompt[-1]).startswith("P") else f"{prompt}."


def build_model(folder: Path, config: dict[str, Any]) -> Any:
    """The model."""
    return build("qwen3_vl_embedding", folder, config)


def hidden_states(model: Any, tokenizer: Any) -> HiddenStates:
    """The states of texts and pictures."""

    def forget_positions() -> None:
        # A workaround: mlx-vlm (0.7) takes a picture's positions for the texts that come after it.
        model.language_model._position_ids = model.language_model._rope_deltas = None

    return mixed_states(model, 0, forget_positions)


def read_inputs(folder: Path, model: Any, texts: InputTexts) -> SightedInputs:
    """The processor, with the sizes of pictures that its authors' code sets, whatever the files say."""
    processor = read_processor(folder)
    images, config = processor.image_processor, model.config
    token_pixels = (images.patch_size * images.merge_size) ** 2
    images.min_pixels, images.max_pixels = (patches * token_pixels for patches in PATCHES)
    template = getattr(processor, "chat_template", None) or processor.tokenizer.chat_template
    if not template:
        raise ValueError("it has no chat template, which says how its inputs are written")
    conversation = Conversation(processor.tokenizer, template)
    reader = InputReader(processor, config, {config.image_token_id: "image", config.video_token_id: "video"})

    def read(given: EmbeddingInput, before: str, text: str) -> tuple[Sequence[int], MediaInputs]:
        whole = conversation.show(before, text, len(given.media))
        return reader.read(whole, given.media, special=True, param=given.param)

    return SightedInputs(picture_inputs(read, texts), conversation.frame)


QWEN3_VL = Family(build_model, hidden_states, read_inputs, pooling="lasttoken")
