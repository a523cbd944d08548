"""Reading a model's folder with mlx-lm: weights, tokenizer, and what its config says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import _get_classes, load_config, load_model, load_tokenizer

from mlx_server.schemas.internal.messages import CpuDtype, Loading
from mlx_server.workers.engine.loading.config_form import TIES, suited, text_of
from mlx_server.workers.engine.loading.file_tokenizers import like_its_file
from mlx_server.workers.engine.loading.json_file import read_json
from mlx_server.workers.engine.loading.left_out import derived, needed
from mlx_server.workers.engine.loading.mended_classes import mended
from mlx_server.workers.engine.loading.rope import put_right, understood
from mlx_server.workers.engine.loading.saved_form import as_known
from mlx_server.workers.engine.output.thinking import find_further_marks
from mlx_server.workers.engine.ranks.sharing import keep_part
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.errors import ModelLoadError, one_line
from mlx_server.workers.folders.conversion_notes import read_notes
from mlx_server.workers.folders.model_files import read_tensors
from mlx_server.workers.folders.unread.compared import comparison_note
from mlx_server.workers.folders.unread.keys import note

DIFFERS = {
    "ernie4_5_moe": "experts are chosen without the correction that the weights hold",
}
"""By type, as seen with mlx-lm 0.32.2 and transformers 5.24."""

TOO_LONG = "sequence-length-is-longer-than-the-specified-maximum"
"""A warning that transformers gives once."""

PROCESSORS_TEMPLATE = "chat_template.json"

PART_READ = 0.02
"""Of the weights, that is read at a time: what is converted needs its memory twice meanwhile."""

SLIDING = ("sliding_attention",)
"""The layers of configs that name none."""


def read_model(
    folder: Path, cpu_dtype: CpuDtype, group: mx.distributed.Group | None = None
) -> tuple[Any, dict[str, Any], list[str]]:
    """The model with its weights unread, its config, and notes. Of a model that a group of ranks computes it is this
    rank's part; a CPU then holds it in float32 unless told to leave it as it is stored. Raises ModelLoadError."""
    if not (folder / "config.json").is_file():
        raise ModelLoadError(f"{folder} is not a model: it has no config.json")
    try:
        config = load_config(folder)
        changes = as_known(config)
        changes |= suited(config | changes) | untied(folder, config)
        changes |= derived(config, required(config | changes))
        model, turned = read_turned(folder, config, changes)
    # An unsupported architecture is a ValueError, a broken file anything; one architecture calls sys.exit.
    except (Exception, SystemExit) as error:
        reason = lacking(config) if isinstance(error, TypeError) else ""
        raise ModelLoadError(f"{folder} can't be loaded: {reason or one_line(error)}") from error
    # mlx-lm knows how to divide its own layers only, not those that stay packed.
    model, notes = platform.suit_weights(model, "float32" if group and cpu_dtype == "auto" else cpu_dtype)
    if group is not None:
        notes.append(keep_part(model, config, group))
    return (
        model,
        config,
        [
            *read_notes(folder),
            *differing(config),
            *turned,
            *window_notes(make_prompt_cache(model), config, "mlx-lm"),
            *note(config, "mlx_lm"),
            *comparison_note(config, "mlx_lm"),
            *notes,
        ],
    )


def read_turned(folder: Path, config: dict[str, Any], changes: dict[str, Any]) -> tuple[Any, list[str]]:
    """The model with the rotary positions that its config asks for, and notes. Some classes refuse a scaling that they
    do not know; they are made without one, and their positions scaled afterwards. Raises anything."""
    found = config | changes
    try:
        model, _ = load_model(
            folder, lazy=True, trust_remote_code=False, model_config=changes, get_model_classes=mended
        )
        return model, put_right(model, found)
    except ValueError:
        if found.get("rope_scaling") is None:
            raise
        plain = {**changes, "rope_scaling": None}
        model, _ = load_model(folder, lazy=True, trust_remote_code=False, model_config=plain, get_model_classes=mended)
        if understood(model, found):
            return model, put_right(model, found)
        raise


def differing(config: dict[str, Any]) -> list[str]:
    """What mlx-lm's class of a type computes differently from transformers', whatever the config."""
    told = DIFFERS.get(str(text_of(config).get("model_type")))
    return [f"mlx-lm computes this type differently from transformers: {told}"] if told else []


def lacking(config: dict[str, Any]) -> str:
    """What a config leaves out without which its class can't be made; "" if nothing."""
    known = config | as_known(config)
    known |= suited(known)
    left = [name for name in required(known) if name not in known | derived(known, [name])]
    return f"its config.json lacks what mlx-lm's class of this type needs: {', '.join(left)}" if left else ""


def required(config: dict[str, Any]) -> list[str]:
    """The keys without which a config's class can't be made. Raises ValueError of an unknown type."""
    _, arguments = _get_classes(config)
    return needed(arguments)


def window_notes(caches: list[Any], config: dict[str, Any], library: str) -> list[str]:
    """What to say of a sliding window that a library's class does not know: all of its caches keep everything."""
    text = text_of(config)
    window, longest = text.get("sliding_window"), text.get("max_position_embeddings")
    used = text.get("use_sliding_window", True) and "sliding_attention" in (text.get("layer_types") or SLIDING)
    if not used or not isinstance(window, int) or not isinstance(longest, int) or window >= longest:
        return []
    # Each library has such a class of its own.
    if any("Rotating" in type(cache).__name__ for cache in caches):
        return []
    return [
        f"{library} does not compute the sliding window of {window} tokens that config.json names: in longer prompts,"
        " layers see further than they were trained to"
    ]


def untied(folder: Path, config: dict[str, Any]) -> dict[str, bool]:
    """The key that a config leaves out whose model has an output layer of its own: some of mlx-lm's classes would take
    the embedding in its place, and drop it."""
    if TIES in config:
        return {}
    return {TIES: False} if any(name.endswith("lm_head.weight") for name in read_tensors(folder)) else {}


def read_tokenizer(folder: Path, config: dict[str, Any], chat_template: str | None = None) -> tuple[Any, list[str]]:
    """mlx-lm's tokenizer, and notes; a given chat template takes the place of the model's own. Raises ModelLoadError.

    Transformers' tokenizers do not read chat_template.json, as its processors do, and some have theirs only there.
    """
    settings: dict[str, Any] = {"trust_remote_code": False}
    if chat_template is not None:
        # The type would name a function of mlx-lm's, which goes before any template.
        settings |= {"chat_template": chat_template, "chat_template_type": None}
    eos = config.get("eos_token_id")
    try:
        tokenizer, notes = like_its_file(
            folder, lambda: load_tokenizer(folder, settings, eos_token_ids=eos), lambda wrapper: wrapper._tokenizer
        )
    except Exception as error:
        raise ModelLoadError(f"{folder}: its tokenizer can't be loaded: {one_line(error)}") from error
    if chat_template is None and not tokenizer.has_chat_template and (of_processor := processors_template(folder)):
        return read_tokenizer(folder, config, of_processor)
    # A prompt beyond the context is refused with numbers: transformers' own words of it would only alarm.
    tokenizer._tokenizer.deprecation_warnings[TOO_LONG] = True
    find_further_marks(tokenizer)
    return tokenizer, notes


def processors_template(folder: Path) -> str | None:
    """The chat template in a file that only processors read, if there is one. Raises ModelLoadError."""
    path = folder / PROCESSORS_TEMPLATE
    found = read_json(path) if path.is_file() else None
    template = found.get("chat_template") if isinstance(found, dict) else None
    return template if isinstance(template, str) else None


def evaluate(model: Any, report: Callable[[Loading], None]) -> int:
    """Read the weights, telling how far it is; returns their size in bytes. Raises ModelLoadError."""
    parameters = [array for _, array in tree_flatten(model.parameters())]
    total = int(sum(array.nbytes for array in parameters))
    done = waiting = 0
    together: list[mx.array] = []
    report(Loading("loading weights", done, total, computes=True))
    try:
        for at, array in enumerate(parameters, 1):
            together.append(array)
            waiting += array.nbytes
            if waiting > total * PART_READ or at == len(parameters):
                mx.eval(together)
                done, waiting = done + waiting, 0
                together.clear()
                report(Loading("loading weights", done, total, computes=True))
    except RuntimeError as error:
        raise ModelLoadError(f"the weights can't be read: {one_line(error)}") from error
    return total
