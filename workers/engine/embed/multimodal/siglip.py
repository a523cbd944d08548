"""SigLIP and SigLIP 2 of fixed size: one tower reads texts, the other looks at pictures; an input goes into one."""

from __future__ import annotations

from collections.abc import Sequence as Several
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from mlx_server.schemas.internal.embedding import EmbeddingInput, Truncation
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.workers.engine.embed.embedder import HiddenStates
from mlx_server.workers.engine.embed.encoder_models import read_weights
from mlx_server.workers.engine.embed.inputs.input_texts import InputTexts
from mlx_server.workers.engine.embed.inputs.job import Item
from mlx_server.workers.engine.embed.multimodal.building import fill
from mlx_server.workers.engine.embed.multimodal.family import Family, SightedInputs
from mlx_server.workers.engine.embed.multimodal.image_inputs import blaming, pictures_of, text_beside
from mlx_server.workers.engine.embed.multimodal.siglip_model import SiglipModel
from mlx_server.workers.engine.media.media import check_kinds

ROWS = 32
"""Inputs in one pass: texts are all as long as they may be, and pictures larger still."""

ACTIVATION = "gelu_pytorch_tanh"


def build_model(folder: Path, config: dict[str, Any]) -> SiglipModel:
    """Both towers."""
    for part in ("text_config", "vision_config"):
        activation = (config.get(part) or {}).get("hidden_act", ACTIVATION)
        if activation != ACTIVATION:
            raise ValueError(f"it has the activation {activation!r}, and only {ACTIVATION} is served")
    model = SiglipModel(config)
    fill(model, config, model.sanitize(read_weights(folder)))
    return model


def hidden_states(model: SiglipModel, tokenizer: Any) -> HiddenStates:
    """A vector for each input, which stands for its only state."""
    length, padding = model.text_length, tokenizer.pad_token_id

    def texts(items: Several[Item]) -> mx.array:
        # The last place is what is pooled, and nothing is masked: so the towers were trained.
        return model.texts(mx.array([[*item.ids, *[padding] * (length - len(item.ids))] for item in items]))

    def pictures(items: Several[Item]) -> mx.array:
        return model.pictures(mx.array(np.stack([item.prepared for item in items])))

    def vectors(items: Several[Item]) -> mx.array:
        parts = []
        for start in range(0, len(items), ROWS):
            some = items[start : start + ROWS]
            parts.append(texts(some) if some[0].prepared is None else pictures(some))
            mx.eval(parts[-1])
        return mx.concatenate(parts)

    def states(items: Several[Item]) -> tuple[mx.array, mx.array]:
        order = sorted(range(len(items)), key=lambda at: items[at].prepared is None)
        shown = sum(item.prepared is not None for item in items)
        of_kind = (order[:shown], order[shown:])
        both = mx.concatenate([vectors([items[at] for at in some]) for some in of_kind if some])
        return both[mx.array(np.argsort(order))][:, None], mx.ones((len(items), 1), dtype=mx.int32)

    return states


def read_inputs(folder: Path, model: SiglipModel, texts: InputTexts) -> SightedInputs:
    """A picture counts as many tokens as the tower sees patches."""
    processor = read_image_processor(folder)

    def with_media(given: EmbeddingInput, before: str, truncation: Truncation | None) -> Item:
        check_kinds(given.media, ("image",))
        if text_beside(given) or len(given.media) > 1:
            raise InvalidRequest(
                f"`{given.param}`: this model makes a vector of a text or of one picture, not of several together.",
                given.param,
            )
        texts.most(truncation)
        with blaming(given):
            pixels = pixels_of(processor, pictures_of(given)[0])
        return Item((0,) * model.patches, media=given.media, prepared=pixels)

    return SightedInputs(with_media)


def read_image_processor(folder: Path) -> Any:
    """What resizes and normalises pictures."""
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    return SiglipImageProcessorPil.from_pretrained(folder, local_files_only=True)


def pixels_of(processor: Any, picture: Any) -> npt.NDArray[np.float32]:
    """A picture as the model takes it, resized and normalised: float32 [H, W, C]."""
    pixels = processor(images=[picture], return_tensors="np")["pixel_values"][0]
    return np.ascontiguousarray(pixels.transpose(1, 2, 0), dtype=np.float32)


SIGLIP = Family(build_model, hidden_states, read_inputs, pooling="cls", lower_case=True, may_be_slow=True)
