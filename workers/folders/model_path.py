"""What a model path may be, decided without loading anything: the command line and the worker ask the same."""

from __future__ import annotations

import re
from pathlib import Path

from mlx_server.workers.folders.gguf_parts import MissingPartsError, parts_of
from mlx_server.workers.folders.model_files import NotAModel, is_described, without_config

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)


class ModelPathError(Exception):
    """Raised when a path can't be a model; the message is one line for the person who gave it."""


def local_path(model_path: str) -> Path | None:
    """The folder or .gguf file that is meant, absolute, or None for a hub id. Raises ModelPathError."""
    try:
        path = Path(model_path).expanduser().absolute()
        if path.is_dir():
            if not is_described(path):
                raise ModelPathError(str(NotAModel(Path(model_path), without_config(path))))
            return path
        if path.is_file():
            if path.suffix != ".gguf":
                raise ModelPathError(f"{model_path} is neither a model folder nor a .gguf file.")
            parts_of(path)
            return path
    except MissingPartsError as error:
        raise ModelPathError(f"{model_path}: {error}.") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelPathError(f"{model_path[:200]} can't be read: {error}") from None
    if not HUB_ID.fullmatch(model_path):
        raise ModelPathError(
            f"{model_path} does not exist. Give an MLX model folder, a .gguf file, or a hub id"
            " such as mlx-community/Qwen3-0.6B-4bit."
        )
    return None
