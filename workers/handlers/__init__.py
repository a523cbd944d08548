"""One handler per kind of model, loaded when it is asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_server.workers.engine.runtime import quick_transformers
from mlx_server.workers.engine.runtime.file_limits import file_limits_kept
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.extras import Extra, install_line
from mlx_server.workers.handlers.base import Handler

if TYPE_CHECKING:
    from mlx_server.workers.handlers.ranks import Leading

OURS = __package__.partition(".")[0]
EXTRAS: dict[str, Extra] = {"audio": "audio", "image": "image"}
"""What brings the packages of a kind of model, where that is not `vlm`."""


def make_handler(model_type: str, *ranks: Leading) -> Handler:
    """The handler for a kind of model; with the other `ranks` of a language model that is on several hosts. Raises
    ModelLoadError for a kind that is not served, or not installed."""
    try:
        with file_limits_kept():
            return handler_class(model_type)(*ranks)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if model_type == "lm" or package in ("", OURS):
            raise
        extra = EXTRAS.get(model_type, "vlm")
        raise ModelLoadError(
            f"this kind of model needs the package {package!r}, which is not installed: {install_line(extra)}"
        ) from None


def import_handlers(cache_dir: Path, model_types: Iterable[str]) -> None:
    """Import what kinds of models need; making a handler says what is missing."""
    quick_transformers.quicken(cache_dir)
    for model_type in model_types:
        with file_limits_kept(), contextlib.suppress(ModuleNotFoundError, ModelLoadError):
            handler_class(model_type)


def handler_class(model_type: str) -> Callable[..., Handler]:
    """What makes the handler, imported now."""
    match model_type:
        case "lm":
            from mlx_server.workers.handlers.lm import LanguageHandler

            return LanguageHandler
        case "embeddings":
            from mlx_server.workers.handlers.embeddings import EmbeddingsHandler

            return EmbeddingsHandler
        case "rerank":
            from mlx_server.workers.handlers.rerank import RerankHandler

            return RerankHandler
        case "vlm":
            from mlx_server.workers.handlers.vlm import VisionHandler

            return VisionHandler
        case "audio":
            from mlx_server.workers.handlers.audio import AudioHandler

            return AudioHandler
        case "image":
            from mlx_server.workers.handlers.image import ImageHandler

            return ImageHandler
        case "scripted":
            from mlx_server.workers.handlers.scripted import ScriptedHandler

            return ScriptedHandler
        case _:
            served = "`lm`, `vlm`, `embeddings`, `rerank`, `audio` and `image`"
            raise ModelLoadError(f"models of type {model_type!r} are not served; {served} are")
