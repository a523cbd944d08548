"""Whether a model in a folder can be served, before MLX is imported and anything is loaded: a line about what is wrong
is there in a second. The front end asks for what lies on this machine, the worker for what it has downloaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlx_server.workers.extras import install_line
from mlx_server.workers.folders.audio_types import audio_kind
from mlx_server.workers.folders.context_length import text_config
from mlx_server.workers.folders.encoder_types import ENCODERS, model_type, no_embeddings, no_scores
from mlx_server.workers.folders.known_types import drafts, installed, knows
from mlx_server.workers.folders.model_files import AGAIN, NotAModel, check_pointer, read_json, read_tensors, visible
from mlx_server.workers.folders.picture_types import check_pictures

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
COMPLETE = ("tokenizer.", "tekken.")
"""How the names of files begin that are a whole tokenizer; with others that file has to say what they are for."""

TOKENIZERS = (*COMPLETE, "vocab.", "spiece.", "sentencepiece.", "merges.")
BEGINNING = 256
"""Bytes of a file in which its first character is."""

TOKENIZER_ENDS = (".tiktoken", ".model", ".spm")
"""How the names of files that hold a tokenizer's vocabulary begin or end."""

VISION_PARTS = ("vision_config", "vision_tower", "mm_vision_tower", "vit_config", "vision_encoder")
"""Keys that only the configuration of a model that sees has."""

CROSS_ATTENTION = ("florence2", "mllama", "nemotron_parse")
"""Types of mlx-vlm's whose layers look at what their encoder has made of a picture whenever they compute a token; the
server keeps keys and values of tokens alone."""

PROCESSORS = ("preprocessor_config.json", "processor_config.json", "image_processor_config.json")
"""What says how pictures become numbers; one of them is enough."""

QUANTISED: Mapping[str, frozenset[str]] = {
    "lm": frozenset(("awq", "bitnet", "compressed-tensors", "fp8", "gptq", "modelopt", "mxfp4", "mxfp8")),
    "vlm": frozenset(("bitnet", "compressed-tensors", "fp8", "modelopt", "mxfp4", "mxfp8")),
}
"""Other makers' ways to quantise (`quant_method`) that mlx-lm 0.32 and mlx-vlm 0.7 convert as they load."""

PACKED = ("mxfp4-pack-quantized", "nvfp4-pack-quantized", "pack-quantized")
"""The formats of `compressed-tensors` among them."""

PACKED_BITS = 4
"""Of weights that AWQ or GPTQ has made."""

BLIND = "serve it without pictures (--model-type lm)"
OWN_CODE = "its model_file names code of its own, which is never run"
DRAFTER = "it drafts for one model from the hidden states of its layers: serve that model, with this as --draft-model"
IN_MLX = "take its original, or a version that is quantised for MLX (mlx-community has many)"


class NotServed(Exception):  # noqa: N818 - named for the fact
    """Raised when a folder holds a whole model that can't be served as wanted; the message is one line and names it."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(f"{folder} can't be served: {why}.")


def check_servable(folder: Path, served_as: str) -> None:
    """Refuse what can't be served as this type of model (`lm`, `vlm`, `embeddings`, `rerank`, `audio` or `image`), or
    be a model's draft (`draft`).

    Only some files' beginnings are read. Raises NotAModel or NotServed.
    """
    if served_as == "image":
        if not installed("mlx_vlm"):
            raise NotServed(folder, f"this kind of model needs mlx-vlm: {install_line('image')}")
        check_pictures(folder)
        return
    config = read_json(folder, "config.json")
    if served_as == "draft":
        if drafts(config):
            check_head(folder, config)
            return
        served_as = "lm"
    if not isinstance(config.get("model_type"), str) and served_as != "audio":
        part = " It is that of a part of a diffusion pipeline" if "_class_name" in config else f" {AGAIN.capitalize()}"
        raise NotAModel(folder, f"its config.json names no model_type.{part}")
    if (reason := wrong_type(folder, config, served_as)) is not None:
        raise NotServed(folder, reason)
    tensors = read_tensors(folder)
    if served_as == "audio":
        return
    if (reason := wrong_weights(config, tensors, served_as)) is not None:
        raise NotServed(folder, reason)
    if served_as == "lm" and not any(folder.glob("model*.safetensors")):
        raise NotServed(folder, "mlx-lm reads files that are called model*.safetensors, and it has others: rename them")
    check_tokenizer(folder)
    if served_as == "vlm" and sees(config) and not any((folder / name).is_file() for name in PROCESSORS):
        raise NotAModel(
            folder,
            f"it looks at pictures and has no {PROCESSORS[0]}: {AGAIN}, or {BLIND}",
        )


def check_head(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a part that can't draft for a model. Raises NotAModel or NotServed."""
    if config.get("model_file"):
        raise NotServed(folder, OWN_CODE)
    if not installed("mlx_vlm"):
        raise NotServed(folder, f"what drafts from hidden states needs mlx-vlm: {install_line('vlm')}")
    read_tensors(folder)


def sees(config: Mapping[str, Any]) -> bool:
    """Whether a model has a part that looks at pictures; those that have lost theirs may say null."""
    return any(config.get(part) is not None for part in VISION_PARTS)


def wrong_type(folder: Path, config: Mapping[str, Any], served_as: str) -> str | None:
    """Why a model of this architecture is not served so; None where it is."""
    if served_as == "audio":
        return wrong_sound(folder, config)
    kind = str(config["model_type"])
    if served_as in ("lm", "vlm") and config.get("model_file"):
        return OWN_CODE
    if served_as in ("lm", "vlm") and drafts(config):
        return DRAFTER
    blind = f", or {BLIND}" if served_as == "vlm" and knows("mlx_lm", config) else ""
    if served_as != "lm" and not installed("mlx_vlm"):
        return f"this kind of model needs mlx-vlm: {install_line('vlm')}{blind}"
    match served_as:
        case "lm" if not knows("mlx_lm", config):
            if model_type(config) in ENCODERS:
                return f"it is of type {kind!r} and writes no text: serve it with --model-type embeddings or rerank"
            if installed("mlx_vlm") and knows("mlx_vlm", config):
                return f"mlx-lm does not know its type, {kind!r}, but mlx-vlm does: serve it with --model-type vlm"
            return unknown(kind, "mlx-lm")
        case "vlm" if not knows("mlx_vlm", config):
            return unknown(kind, "mlx-vlm") + blind
        case "vlm" if kind in CROSS_ATTENTION:
            return f"it is of type {kind!r}, which attends to its encoder in every step: such models are not served"
        case "embeddings":
            reason = no_embeddings(config)
        case "rerank":
            reason = no_scores(config, pooled=(folder / "1_Pooling").is_dir())
        case _:
            reason = None
    return None if reason is None else f"it {reason}"


def wrong_sound(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Why a model is not served as one that hears or speaks; None where it is."""
    if not installed("mlx_audio"):
        return f"this kind of model needs mlx-audio: {install_line('audio')}"
    if audio_kind(config, folder.name) is None:
        return unknown(str(config.get("model_type")), "mlx-audio")
    # Many of mlx-audio's families load tokenizers with code that a folder brings or names.
    for name in (TOKENIZER_CONFIG, "config.json", *PROCESSORS):
        if (folder / name).is_file() and read_json(folder, name).get("auto_map"):
            return f"the auto_map of its {name} names code of its own, which is never run"
    return None


def unknown(kind: str, library: str) -> str:
    """What to do about an architecture that a library lacks."""
    return (
        f"{library} {version(library)} does not know its type, {kind!r}: take another model, or a newer {library}"
        f" (pip install -U {library})"
    )


def wrong_weights(config: Mapping[str, Any], tensors: Iterable[str], served_as: str) -> str | None:
    """Why weights that others have quantised can't be read; None where they can, or nobody has."""
    found = config.get("quantization_config") or text_config(config).get("quantization_config")
    if config.get("quantization") is not None or not isinstance(found, Mapping):
        return None
    method = found.get("quant_method") or ("bitsandbytes" if any("load_in_" in key for key in found) else None)
    if method is None:
        return None
    reason = f"its weights are quantised with {method}, which can't be read here"
    if method not in QUANTISED.get(served_as, ()):
        return f"{reason}: {IN_MLX}"
    if method == "compressed-tensors" and served_as == "lm" and (form := found.get("format")) not in PACKED:
        return f"its weights are quantised in the format {form} of {method}, which can't be read here: {IN_MLX}"
    if method in ("awq", "gptq"):
        if (bits := found.get("bits", PACKED_BITS)) != PACKED_BITS:
            return f"{reason} with {bits} bits, only with {PACKED_BITS}: {IN_MLX}"
        if any(name.endswith(".g_idx") for name in tensors):
            return f"{reason} with groups in an order of their own (g_idx): {IN_MLX}"
    return None


def check_object(folder: Path, name: str) -> None:
    """Refuse a large file of JSON that does not begin like an object. Raises NotAModel or OSError."""
    with (folder / name).open("rb") as file:
        if not file.read(BEGINNING).lstrip().startswith(b"{"):
            raise NotAModel(folder, f"{name} is no JSON object: {AGAIN}")


def check_tokenizer(folder: Path) -> None:
    """Refuse a model without a tokenizer's vocabulary. Raises NotAModel."""
    names = [
        file.name
        for file in visible(folder.iterdir())
        if file.name.startswith(TOKENIZERS) or file.name.endswith(TOKENIZER_ENDS)
    ]
    described = (folder / TOKENIZER_CONFIG).is_file()
    if not names or not (described or any(name.startswith(COMPLETE) for name in names)):
        raise NotAModel(folder, f"it has no tokenizer ({TOKENIZER}): {AGAIN}, or copy it from the original model")
    for name in names:
        try:
            check_pointer(folder, name)
            if name == TOKENIZER:
                check_object(folder, name)
        except OSError as error:
            raise NotAModel(folder, f"{name} can't be read ({error.strerror or error}): {AGAIN}") from None
    if described:
        read_json(folder, TOKENIZER_CONFIG)
