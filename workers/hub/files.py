"""Which of a repository's files a model needs, and what the hub says of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

# What mlx-lm itself asks the hub for; `*` also stands for folders, such as those of sentence-transformers' pooling and
# dense layers, and those of the networks of a model that draws. Weights in other frameworks' formats are no part of
# it.
MODEL_FILES = [
    "*.json",
    "model*.safetensors",
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
HUB_FILES = [*MODEL_FILES, "README.md"]
"""What is downloaded: also the model's card, which it works without."""

ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""It becomes the name of a file here, whatever a hub may say."""

WEIGHTS = "*.safetensors"


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
        if one.size is not None
        and stays_inside(one.rfilename)
        and any(fnmatch(one.rfilename, pattern) for pattern in HUB_FILES)
    ]
    return sorted((file for file in files if ETAG.fullmatch(file.etag)), key=lambda file: (-file.size, file.path))


def stays_inside(path: str) -> bool:
    """Whether a file of this path, whatever a hub may say, would lie within the folder of its repository."""
    return "\\" not in path and not {"", ".", ".."}.intersection(path.split("/"))


def has_weights(files: Iterable[RepoFile]) -> bool:
    """Whether there is something to serve among them."""
    return any(fnmatch(file.path, WEIGHTS) for file in files)
