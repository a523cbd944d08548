"""A workaround: configs of models that see in the form that mlx-vlm's classes (0.7.10) read, and with the part that
writes text which a config asks for."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from mlx_vlm import utils
from mlx_vlm.models.qwen2.config import ModelConfig
from mlx_vlm.models.qwen2.language import LanguageModel

from mlx_server.workers.engine.loading.config_form import TIES, suited, text_of
from mlx_server.workers.engine.loading.left_out import derived, needed
from mlx_server.workers.engine.loading.rope_form import AXES
from mlx_server.workers.engine.vision.mended.weights import OUTPUT

STRICT = ("glm_ocr",)
"""Types whose class takes no keys but those that it knows."""

NO_SCALING = {"type": "default", "rope_type": "default"}

PARTS = {"text_config": "TextConfig", "vision_config": "VisionConfig"}

WIDTHS = {"lfm2": ("block_dim", "conv_dim", "conv_dim_out")}
"""By the type of the part that writes text, what transformers 5 calls `hidden_size` alone, and a class has a default
for."""


def fitting(config: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The keys to set in a config; none where a class reads it as it is. `names` are those of the weights. Raises
    anything of an unknown type."""
    changes = suited(config)
    if not config.get("text_config"):
        classes, _ = utils.get_model_and_args(dict(config))
        changes |= derived({**config, **changes}, needed(classes.ModelConfig))
    text = changes.get("text_config", config.get("text_config"))
    if isinstance(text, Mapping):
        inner = dict.fromkeys(WIDTHS.get(str(text.get("model_type")), ()), text.get("hidden_size"))
        found = {name: value for name, value in inner.items() if name not in text}
        # transformers 4 went by the inner one, 5 goes by the outer one: where they differ, the files decide.
        if None not in (ties := {config.get(TIES), text.get(TIES)}) and len(ties) > 1:
            found[TIES] = not any(name.endswith(OUTPUT) for name in names)
        changes |= {"text_config": {**text, **found}} if found else {}
    return changes | (known(config, changes) if config.get("model_type") in STRICT else {})


def unscaled_in(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The keys to set so that a class is asked for no scaling of rotary positions but their axes; none where there is
    nothing to leave out."""
    whole = {**config, **changes}
    found = without_scaling(whole)
    text = whole.get("text_config")
    if isinstance(text, Mapping) and (inner := without_scaling(text)):
        found["text_config"] = {**text, **inner}
    return {**changes, **found} if found else {}


def without_scaling(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys to set in one part of a config for that."""
    scaling = config.get("rope_scaling")
    if not isinstance(scaling, Mapping):
        return {}
    return {"rope_scaling": {**NO_SCALING, AXES: scaling[AXES]} if AXES in scaling else None}


def known(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a config with the keys that their classes know alone."""
    classes, _ = utils.get_model_and_args(dict(config))
    found = {}
    for part, name in PARTS.items():
        names = {field.name for field in dataclasses.fields(getattr(classes, name))}
        given = changes.get(part, config.get(part)) or {}
        found[part] = {key: value for key, value in given.items() if key in names}
    return found


@contextlib.contextmanager
def text_part_of(config: Mapping[str, Any]) -> Iterator[None]:
    """Within this, mlx-vlm's class of InternVL has Qwen 2's part that writes text, where a config asks for it: it knows
    Qwen 3's alone."""
    if config.get("model_type") != "internvl" or text_of(config).get("model_type") != "qwen2":
        yield
        return
    # To import it changes which processors other models get.
    from mlx_vlm.models import internvl

    parts = {"LanguageModel": LanguageModel, "TextConfig": ModelConfig}
    places = [(internvl, "LanguageModel"), (internvl.internvl, "LanguageModel"), (internvl, "TextConfig")]
    found = [(module, name, getattr(module, name)) for module, name in places]
    for module, name in places:
        setattr(module, name, parts[name])
    try:
        yield
    finally:
        for module, name, part in found:
            setattr(module, name, part)


@contextlib.contextmanager
def config_changed(changes: Mapping[str, Any]) -> Iterator[None]:
    """Within this, mlx-vlm's `load_model` finds other values in a config: it can't be given any."""
    found = utils.load_config
    utils.load_config = lambda *args, **options: {**found(*args, **options), **changes}
    try:
        yield
    finally:
        utils.load_config = found
