"""From what the user named to a folder with an MLX model: a folder, a .gguf file, or a hub repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlx_server.schemas.internal.messages import Loading
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.folders.conversions import hold
from mlx_server.workers.folders.gguf import GgufError, convert_gguf
from mlx_server.workers.folders.model_files import NotAModel
from mlx_server.workers.folders.model_path import ModelPathError, local_path
from mlx_server.workers.folders.servable import NotServed, check_servable
from mlx_server.workers.hub.access import HubAccess
from mlx_server.workers.hub.errors import HubError
from mlx_server.workers.hub.part import Part, fetch_part
from mlx_server.workers.hub.snapshot import fetch


def resolve(
    model_path: str, cache_dir: Path, report: Callable[[Loading], None], served_as: str, part: Part | None = None
) -> Path:
    """An absolute folder. Downloads, all or a part of it, or converts if it has to. Raises ModelLoadError, also for a
    folder whose model can't be served as this type."""
    try:
        path = local_path(model_path)
        if path is None:
            path = download(model_path, report, part)
        elif not path.is_dir():
            path = convert(path, cache_dir, report)
        check_servable(path, served_as)
    except (ModelPathError, GgufError, NotAModel, NotServed) as error:
        raise ModelLoadError(str(error)) from None
    return path


def convert(path: Path, cache_dir: Path, report: Callable[[Loading], None]) -> Path:
    """The folder of a .gguf file, which stays while this process lives. Raises GgufError."""
    while True:
        folder = convert_gguf(path, cache_dir, lambda line: report(Loading(line)))
        if hold(folder):
            return folder


def download(repo_id: str, report: Callable[[Loading], None], part: Part | None) -> Path:
    """A hub repository's folder in the hub's own cache, or one with a part of it. Raises ModelLoadError."""
    phase = f"downloading {repo_id}"
    report(Loading(phase))

    def tell(done: int, total: int) -> None:
        report(Loading(phase, done, total))

    access = HubAccess.from_environment()
    try:
        return fetch(repo_id, access, tell) if part is None else fetch_part(repo_id, access, tell, part)
    except HubError as error:
        raise ModelLoadError(str(error)) from None
