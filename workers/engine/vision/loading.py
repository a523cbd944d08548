"""Reading a model's folder with mlx-vlm: weights and processor. No code out of the folder is run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlx_vlm.generate.diffusion import is_diffusion_model
from mlx_vlm.models.cache import make_prompt_cache
from mlx_vlm.utils import load_image_processor, load_model, load_processor

from mlx_server.schemas.internal.messages import CpuDtype
from mlx_server.workers.engine.loading.config_form import TIES, text_of
from mlx_server.workers.engine.loading.file_tokenizers import like_its_file, tokenizer_in
from mlx_server.workers.engine.loading.loading import window_notes
from mlx_server.workers.engine.loading.rope import put_right, understood, unscaled
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.engine.vision.mended.activations import with_activations
from mlx_server.workers.engine.vision.mended.configs import config_changed, fitting, text_part_of, unscaled_in
from mlx_server.workers.engine.vision.mended.last_norm import with_last_norm
from mlx_server.workers.engine.vision.mended.patch_positions import with_patch_positions
from mlx_server.workers.engine.vision.mended.rotary import scalable, scaled
from mlx_server.workers.engine.vision.mended.weights import weights_mended
from mlx_server.workers.engine.vision.remote_code import remote_code_refused
from mlx_server.workers.errors import ModelLoadError, one_line
from mlx_server.workers.folders.model_files import NotAModel, read_tensors
from mlx_server.workers.folders.unread.compared import comparison_note
from mlx_server.workers.folders.unread.keys import note
from mlx_server.workers.folders.unread.settings import GENERATION, settings

BOTH_WAYS = "a picture's tokens do not see those of the same picture behind them"
"""Pictures would have to be read in one piece; mlx-vlm can for Gemma 4 alone, and does it in layers that should not."""

SCALED_LOGITS = "its logits are scaled (logit_scale), and transformers' are not"

DIFFERS = {
    "aya_vision": SCALED_LOGITS,
    "cohere2_vision": SCALED_LOGITS,
    "deepseek_v4": "its logits were seen to differ, and why is not known",
    "gemma3": BOTH_WAYS,
    "paligemma": "not every token of a prompt sees all others",
    "hunyuan_vl": "it sees pictures otherwise, and why is not known",
    "llava_next": "it sees the parts of large pictures otherwise",
}
"""By type, as seen with mlx-vlm 0.7.10 and transformers 5.24."""

ALWAYS_TIED = ("gemma3",)
"""Types whose output layer is the embedding, whatever a config says."""

ACTIVATIONS = {"pixtral": "silu"}
"""What mlx-vlm's encoders of pictures have built in, whatever a config says."""


def read_vision_model(folder: Path, cpu_dtype: CpuDtype) -> tuple[Any, Any, dict[str, Any], list[str]]:
    """The model with its weights unread, its processor, its config, and notes. Raises ModelLoadError."""
    model, config, notes = read_seeing(folder, cpu_dtype)
    try:
        with remote_code_refused():
            processor, unlike = read_processor(folder, model)
    except (Exception, SystemExit) as error:
        raise ModelLoadError(f"{folder}: its processor can't be loaded: {one_line(error)}") from error
    told = [*notes, *unlike, *note(config, "mlx_vlm"), *comparison_note(config, "mlx_vlm")]
    return model, processor, config, told


def read_seeing(folder: Path, cpu_dtype: CpuDtype) -> tuple[Any, dict[str, Any], list[str]]:
    """The model by itself with its weights unread, its config, and notes. Raises ModelLoadError."""
    config = read_config(folder)
    if "model_file" in config:
        raise ModelLoadError(f"{folder} has its model's code in a file of its own, which is never run")
    try:
        model = read_turned(folder, config)
    # An unsupported architecture is a ValueError, a broken file anything.
    except (Exception, SystemExit) as error:
        raise ModelLoadError(f"{folder} can't be loaded: {one_line(error)}") from error
    if not hasattr(model, "language_model") or not hasattr(model, "get_input_embeddings"):
        raise ModelLoadError(f"{folder} is a {config.get('model_type')}, which does not write text")
    if is_diffusion_model(model, {}):
        raise ModelLoadError(f"{folder} writes text by diffusion, which is not served")
    with_patch_positions(model, str(config.get("model_type")))
    with_last_norm(model, str(config.get("model_type")))
    with_activations(model, config)
    turned = [*put_right(model.language_model, config), *scaled(model.language_model, config)]
    if not scalable(model.language_model, config):
        turned += unscaled(model.language_model, config)
    model, notes = platform.suit_weights(model, cpu_dtype)
    windows = window_notes(make_prompt_cache(model.language_model), config, "mlx-vlm")
    return model, config, [*differing(config), *turned, *windows, *notes]


def read_turned(folder: Path, config: dict[str, Any]) -> Any:
    """The model by itself. A class that refuses a scaling of rotary positions is made without one, if they can be
    scaled afterwards. Raises anything."""
    shapes = {name: tensor.shape for name, tensor in read_tensors(folder).items()}
    changes = fitting(config, shapes)
    try:
        return read_changed(folder, config, changes, shapes)
    except ValueError:
        if plain := unscaled_in(config, changes):
            model = read_changed(folder, config, plain, shapes)
            if understood(model.language_model, config) or scalable(model.language_model, config):
                return model
        raise


def read_changed(
    folder: Path, config: dict[str, Any], changes: dict[str, Any], shapes: Mapping[str, Sequence[int]]
) -> Any:
    """The model by itself, with these keys in its config; `shapes` are those of its weights. Raises anything."""
    mended = weights_mended(config | changes, shapes)
    with remote_code_refused(), text_part_of(config), config_changed(changes), mended:
        return load_model(folder, lazy=True, trust_remote_code=False)


def differing(config: Mapping[str, Any]) -> list[str]:
    """What mlx-vlm's class computes differently from transformers'."""
    reasons = []
    if str(config.get("model_type")) in DIFFERS:
        reasons.append(DIFFERS[str(config["model_type"])])
    if text_of(config).get("use_bidirectional_attention") == "vision":
        reasons.append(BOTH_WAYS)
    if config.get("model_type") in ALWAYS_TIED and (text_of(config).get(TIES) or config.get(TIES)) is False:
        reasons.append(f"its output layer is the embedding ({TIES})")
    tower = config.get("vision_config")
    tower = tower if isinstance(tower, Mapping) else {}
    built_in = ACTIVATIONS.get(str(tower.get("model_type")))
    if built_in is not None and tower.get("hidden_act", built_in) != built_in:
        reasons.append(f"its encoder of pictures has the activation {built_in}, not {tower['hidden_act']}")
    return [f"mlx-vlm computes this model differently from transformers: {reason}" for reason in reasons]


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's config.json, with the tokens that end an answer from generation_config.json, if that names any, as
    mlx-lm's and mlx-vlm's configs have them. Raises ModelLoadError."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise ModelLoadError(f"{folder} is not a model: it has no config.json") from None
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{folder}: its config.json can't be read: {one_line(error)}") from None
    if not isinstance(config, dict):
        raise ModelLoadError(f"{folder}: its config.json is no object")
    return config | ends(folder)


def ends(folder: Path) -> dict[str, Any]:
    """What generation_config.json says about the tokens that end an answer."""
    with contextlib.suppress(NotAModel):  # told where its sampling is read
        if (found := settings(folder, GENERATION).get("eos_token_id")) is not None:
            return {"eos_token_id": found}
    return {}


def read_processor(folder: Path, model: Any) -> tuple[Any, list[str]]:
    """The processor with the model's own image processor, if it has one, and notes."""
    eos = getattr(model.config, "eos_token_id", None)
    processor, notes = like_its_file(
        folder, lambda: load_processor(folder, True, eos_token_ids=eos, trust_remote_code=False), tokenizer_in
    )
    image_processor = load_image_processor(folder, trust_remote_code=False)
    if image_processor is not None:
        processor.image_processor = image_processor
    return processor, notes
