"""From what the user named to a folder with an MLX model: a folder, a .gguf file, or a hub repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlx_server.schemas.messages import Loading
from mlx_server.workers.gguf import GgufError, convert_gguf
from mlx_server.workers.handlers.base import ModelLoadError
from mlx_server.workers.model_path import ModelPathError, local_path

# The files that mlx-lm itself asks the hub for: `*` also stands for folders, such as those of sentence-transformers'
# pooling and dense layers, whose weights have to be named.
HUB_FILES = [
    "*.json",
    "model*.safetensors",
    "*_Dense/model.safetensors",
    "*.model",
    "*.tiktoken",
    "tiktoken.model",
    "*.txt",
    "*.jsonl",
    "*.jinja",
]


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
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    report(Loading(f"downloading {repo_id}"))
    try:
        return Path(snapshot_download(repo_id, allow_patterns=HUB_FILES)).absolute()
    except GatedRepoError:
        raise ModelLoadError(f"{repo_id} is gated: accept its terms on the hub, then set HF_TOKEN") from None
    except RepositoryNotFoundError:
        raise ModelLoadError(f"{repo_id} is neither a local path nor a repository on the hub") from None
    except LocalEntryNotFoundError:
        raise ModelLoadError(
            f"{repo_id} is not on this machine and the hub can't be reached: check the connection or name a folder"
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise ModelLoadError(f"{repo_id} could not be downloaded: {one_line(error)}") from None


def one_line(error: BaseException) -> str:
    """An exception's message, on one line."""
    return " ".join(str(error).split())[:500] or type(error).__name__
