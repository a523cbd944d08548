"""Which of a repository's files a model needs, and what the hub says of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from mlx_server.workers.folders.model_files import PIPELINE

USUAL_WEIGHTS = "model*.safetensors"
WEIGHTS = "*.safetensors"

# What mlx-lm itself asks the hub for; `*` also stands for folders, such as those of sentence-transformers' pooling and
# dense layers, and those of the networks of a model that draws. Weights in other frameworks' formats are no part of
# it.
MODEL_FILES = [
    "*.json",
    USUAL_WEIGHTS,
    "*_Dense/model.safetensors",
    "text_encoder/*.safetensors",
    "transformer/*.safetensors",
    "vae/*.safetensors",
    "*.model",
    "*.tiktoken",
    "*.txt",
    "*.jsonl",
    "*.jinja",
]
VOICES = ["voices/*.safetensors", "embeddings/*.safetensors", "voices.npz"]
"""Of models that speak."""

HUB_FILES = [*MODEL_FILES, *VOICES, "README.md"]
"""What is downloaded: also the model's voices and its card, which it works without."""

ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""It becomes the name of a file here, whatever a hub may say."""


@dataclass(frozen=True)
class RepoFile:
    """A file of a repository: `size` in bytes; `etag` is its name in the hub's cache.

    `etag` is also its checksum: SHA-256 of a large file, git's SHA-1 of a small one.
    """

    path: str
    size: int
    etag: str

    @property
    def large(self) -> bool:
        """Whether git keeps it apart (LFS)."""
        return len(self.etag) == 64


def needed(siblings: Iterable[Any]) -> list[RepoFile]:
    """The files that a model is made of, from the hub's `siblings` (requested with their metadata); the largest
    first."""
    files = [
        RepoFile(one.rfilename, one.size, (one.lfs.sha256 if one.lfs else one.blob_id) or "")
        for one in siblings
        if one.size is not None and stays_inside(one.rfilename)
    ]
    names = chosen([file.path for file in files], HUB_FILES)
    files = [file for file in files if file.path in names]
    return sorted((file for file in files if ETAG.fullmatch(file.etag)), key=lambda file: (-file.size, file.path))


def chosen(paths: Collection[str], patterns: Iterable[str]) -> set[str]:
    """Of a repository's files those that patterns mean, and its weights where they have names of their own, as those of
    models that hear and speak: all in its root, `consolidated` ones only without others. A pipeline's lie in folders.
    """
    found = {path for path in paths if any(fnmatch(path, pattern) for pattern in patterns)}
    weights = {path for path in paths if fnmatch(path, WEIGHTS) and not re.search(r"/|^\.|^adapter", path)}
    if "config.json" not in paths or PIPELINE in paths or any(fnmatch(path, USUAL_WEIGHTS) for path in weights):
        return found
    return found | ({path for path in weights if not path.startswith("consolidated")} or weights)


def stays_inside(path: str) -> bool:
    """Whether a file of this path, whatever a hub may say, would lie within the folder of its repository."""
    return "\\" not in path and not {"", ".", ".."}.intersection(path.split("/"))


def has_weights(files: Iterable[RepoFile]) -> bool:
    """Whether there is something to serve among them."""
    weights = [file.path for file in files if fnmatch(file.path, WEIGHTS)]
    return any(not any(fnmatch(path, voices) for voices in VOICES) for path in weights)
