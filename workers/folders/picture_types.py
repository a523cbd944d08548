"""Which folders hold models that draw, by the `model_index.json` of Diffusers' layout. Nothing is loaded."""

from __future__ import annotations

from pathlib import Path

from mlx_server.workers.folders.model_files import PIPELINE, NotAModel, read_json, weight_files

FAMILIES = {"Flux2KleinPipeline": "flux2", "ZImagePipeline": "z_image", "ZImageImg2ImgPipeline": "z_image"}
"""What is served, by the `_class_name` of the pipeline."""

PARTS = ("text_encoder", "transformer", "vae")
"""Folders that hold networks: a config.json and weights in each."""

FILES = ("scheduler/scheduler_config.json", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json")
"""What is read beside them."""


def draws(folder: Path) -> str | None:
    """The family of the model that a folder holds; None if it is none that draws, or one that is not served."""
    try:
        return FAMILIES.get(pipeline(folder))
    except NotAModel:
        return None


def pipeline(folder: Path) -> str:
    """The class that Diffusers would load it with. Raises NotAModel."""
    return str(read_json(folder, PIPELINE).get("_class_name"))


def check_pictures(folder: Path) -> str:
    """The family of a whole model that draws. Raises NotAModel, also where a part of it is missing."""
    name = pipeline(folder)
    family = FAMILIES.get(name)
    if family is None:
        served = ", ".join(sorted(FAMILIES))
        raise NotAModel(folder, f"its {PIPELINE} names {name}, and those that draw here are {served}")
    for part in PARTS:
        read_json(folder / part, "config.json")
        if not weight_files(folder / part):
            raise NotAModel(folder, f"{part} holds no weights (*.safetensors)")
    for name in FILES:
        read_json(folder, name)
    return family
