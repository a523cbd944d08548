"""From what the user named to a folder with an MLX model: a folder, a .gguf file, or a hub repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlx_server.schemas.messages import Loading
from mlx_server.workers.gguf import GgufError, convert_gguf
from mlx_server.workers.handlers.base import ModelLoadError
from mlx_server.workers.hub.access import HubAccess
from mlx_server.workers.hub.errors import HubError
from mlx_server.workers.hub.snapshot import fetch
from mlx_server.workers.model_path import ModelPathError, local_path


def resolve(model_path: str, cache_dir: Path, report: Callable[[Loading], None]) -> Path:
    """An absolute folder. Downloads or converts if it has to. Raises ModelLoadError."""
    try:
        path = local_path(model_path)
        if path is None:
            return download(model_path, report)
        return path if path.is_dir() else convert_gguf(path, cache_dir, lambda line: report(Loading(line)))
    except (ModelPathError, GgufError) as error:
        raise ModelLoadError(str(error)) from None


def download(repo_id: str, report: Callable[[Loading], None]) -> Path:
    """A hub repository's folder in the hub's own cache. Raises ModelLoadError."""
    phase = f"downloading {repo_id}"
    report(Loading(phase))
    try:
        return fetch(repo_id, HubAccess.from_environment(), lambda done, total: report(Loading(phase, done, total)))
    except HubError as error:
        raise ModelLoadError(str(error)) from None


def one_line(error: BaseException) -> str:
    """An exception's message, on one line."""
    return " ".join(str(error).split())[:500] or type(error).__name__
