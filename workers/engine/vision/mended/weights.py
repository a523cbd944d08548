"""A workaround: weights of models that see, by the names and as many as mlx-vlm's classes (0.7.10) want them.

transformers 5 leaves `vision_model` out of the names of encoders of pictures, saves no output layer where the embedding
takes its place, and experts' matrices the other way round.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlx_vlm import utils

from mlx_server.workers.engine.loading.config_form import TIES, text_of
from mlx_server.workers.engine.loading.mended_classes import renamed

ENCLOSED = ("aya_vision", "cohere2_vision", "gemma3", "llava", "llava_next", "paligemma")
"""Types whose class has the encoder's weights in a `vision_model`."""

ENCODER = {r"\bvision_tower\.(?=(embeddings|encoder|pre_layrnorm|post_layernorm)\.)": "vision_tower.vision_model."}
UNTIED = (
    "glm4v",
    "glm4v_moe",
    "glm_ocr",
    "idefics2",
    "idefics3",
    "kimi_k25",
    "llama4",
    "llava_next",
    "muse_glimmer",
    "paddleocr_vl",
    "pixtral",
    "smolvlm",
)
"""Types whose class always has an output layer."""

EMBEDDING = re.compile(r"^(?P<before>language_model\.)?.*\bembed_tokens\.(?P<part>weight|scales|biases)$")
OUTPUT = "lm_head.weight"

SWAPPED = ("qwen3_vl_moe",)
"""Types whose class wants experts' matrices as [experts, in, out], as their first files have them."""

EXPERTS = (".experts.gate_up_proj", ".experts.down_proj")


RENAMED = dict.fromkeys(ENCLOSED, ENCODER) | {
    "deepseek_v4": {r"^model\.hc_head\.hc_": "hc_head_", r"\.attn\.norm\.": ".attn.kv_norm."},
    "kimi_k25": {
        r"^language_model\.model\.blocks\.": "language_model.model.layers.",
        r"^model\.mm_projector\.": "mm_projector.",
    },
}
"""By type, patterns in names of weights and what the class has instead."""


@contextlib.contextmanager
def weights_mended(config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> Iterator[None]:
    """Within this, mlx-vlm's `load_model` finds what it wants in the files of a model; `shapes` are those of all their
    tensors."""
    kind, text, found = str(config.get("model_type")), text_of(config), utils._load_safetensors
    ties = bool(config.get(TIES) or text.get(TIES))
    lacks_output = kind in UNTIED and ties and not any(name.endswith(OUTPUT) for name in shapes)
    swapped = kind in SWAPPED and out_first(text, shapes)

    def load(path: str) -> dict[str, Any]:
        weights: dict[str, Any] = found(path)
        weights = renamed(weights, RENAMED.get(kind, {}))
        if swapped:
            weights = in_first(weights)
        return {**weights, **output_layer(weights)} if lacks_output else weights

    utils._load_safetensors = load
    try:
        yield
    finally:
        utils._load_safetensors = found


def out_first(text: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> bool:
    """Whether experts' matrices lie as [experts, out, in]."""
    out_in = [text.get("hidden_size"), text.get("moe_intermediate_size")]
    lying = {tuple(shape[1:]) for name, shape in shapes.items() if name.endswith(EXPERTS[1])}
    return out_in[0] != out_in[1] and lying == {tuple(out_in)}


def in_first(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The same with experts' matrices as [experts, in, out]."""
    return {name: array.swapaxes(1, 2) if name.endswith(EXPERTS) else array for name, array in weights.items()}


def output_layer(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The embedding's weights, quantised ones too, as those of an output layer; none where it is in another file."""
    places = [(EMBEDDING.match(name), array) for name, array in weights.items()]
    return {f"{place['before'] or ''}lm_head.{place['part']}": array for place, array in places if place}
