"""One handler per kind of model, loaded when it is asked for."""

from __future__ import annotations

from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.file_limits import file_limits_kept
from mlx_server.workers.handlers.base import Handler

NO_MLX_VLM = "models that look at pictures need mlx-vlm: pip install 'mlx-server[vlm]'"


def make_handler(model_type: str) -> Handler:
    """The handler for a kind of model. Raises ModelLoadError for a kind that is not served."""
    match model_type:
        case "lm":
            with file_limits_kept():
                from mlx_server.workers.handlers.lm import LanguageHandler

            return LanguageHandler()
        case "embeddings":
            with file_limits_kept():
                from mlx_server.workers.handlers.embeddings import EmbeddingsHandler

            return EmbeddingsHandler()
        case "rerank":
            with file_limits_kept():
                from mlx_server.workers.handlers.rerank import RerankHandler

            return RerankHandler()
        case "vlm":
            try:
                with file_limits_kept():
                    from mlx_server.workers.handlers.vlm import VisionHandler
            except ModuleNotFoundError as error:
                if error.name is None or error.name.partition(".")[0] != "mlx_vlm":
                    raise
                raise ModelLoadError(NO_MLX_VLM) from None

            return VisionHandler()
        case "scripted":
            from mlx_server.workers.handlers.scripted import ScriptedHandler

            return ScriptedHandler()
        case _:
            served = "`lm`, `vlm`, `embeddings` and `rerank`"
            raise ModelLoadError(f"models of type {model_type!r} are not served yet; {served} are")
