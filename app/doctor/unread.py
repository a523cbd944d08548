"""What nobody looks at in the settings of a model on disk: of the model, of its answers, of its tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_server.app.catalog.gguf_header import GgufHeaderError, read_header
from mlx_server.app.catalog.kinds import Kind
from mlx_server.app.registry.rows import ModelRow
from mlx_server.workers.folders.conversion_notes import unread_metadata
from mlx_server.workers.folders.encoder_types import JUDGES, model_type
from mlx_server.workers.folders.gguf import GgufError, converted
from mlx_server.workers.folders.known_types import Library
from mlx_server.workers.folders.model_files import NotAModel, read_json
from mlx_server.workers.folders.unread.compared import Part, comparison_note
from mlx_server.workers.folders.unread.keys import at, unread_keys, usual_config
from mlx_server.workers.folders.unread.settings import (
    GENERATION,
    GENERATION_CHANGES,
    TOKENIZER,
    unread_generation,
    unread_tokenizer,
)

LIBRARIES: dict[Kind, Library] = {Kind.LANGUAGE: "mlx_lm", Kind.VISION: "mlx_vlm"}
"""Whose classes compute models of a kind. Encoders are computed by classes of this server, which refuse the rest."""

PARTS: dict[Kind, Part] = {**LIBRARIES, Kind.EMBEDDING: "embeddings", Kind.RERANKER: "rerankers"}
"""The same for those that were compared with transformers. Language models that judge are computed as such."""

TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True)
class UnreadKey:
    """A key of a file that says something, and what transformers has for it where a file says nothing; None if it has
    nothing or does not know the type."""

    file: str
    key: str
    value: Any
    usual: Any


def unread_of(model: ModelRow, cache_dir: Path) -> list[UnreadKey] | None:
    """The keys of the files of a model; None for a .gguf file that has not been converted yet into `cache_dir`, before
    which nobody knows. Raises NotAModel."""
    path = Path(model.path or "")
    if path.suffix == ".gguf" and path.is_file():
        return unread_of_gguf(path, cache_dir)
    return unread_of_folder(path, LIBRARIES.get(model.type))


def unread_of_gguf(path: Path, cache_dir: Path) -> list[UnreadKey] | None:
    """The keys of a .gguf file's metadata, and of what was made of it."""
    try:
        folder = converted(path, cache_dir)
        metadata = read_header(path).metadata
    except (GgufError, GgufHeaderError) as error:
        raise NotAModel(path, str(error)) from None
    if folder is None:
        return None
    keys = unread_metadata(folder)
    return [
        *(UnreadKey(path.name, key, metadata.get(key), None) for key in keys),
        *unread_of_folder(folder, "mlx_lm"),
    ]


def unread_of_folder(folder: Path, library: Library | None) -> list[UnreadKey]:
    """The same of a folder whose model a library computes. Raises NotAModel."""
    if library is None or not folder.is_dir():
        return []
    config = read_json(folder, "config.json")
    usual = usual_config(str(config.get("model_type")))
    keys = sorted(unread_keys(config, library).items())
    return [
        *(UnreadKey("config.json", key, value, at(usual, key)) for key, value in keys),
        *(
            UnreadKey(GENERATION, key, value, GENERATION_CHANGES.get(key))
            for key, value in sorted(unread_generation(folder).items())
        ),
        *(
            UnreadKey(TOKENIZER, key, value, None)
            for key, value in sorted(unread_tokenizer(folder, encoding(folder)).items())
        ),
    ]


def comparison_of(model: ModelRow, cache_dir: Path) -> list[str]:
    """What to say of a model that was not compared with transformers; nothing of a .gguf file that has not been
    converted yet. Raises NotAModel."""
    path = Path(model.path or "")
    try:
        folder = converted(path, cache_dir) if path.suffix == ".gguf" else path
    except GgufError as error:
        raise NotAModel(path, str(error)) from None
    if model.path is None or model.type not in PARTS or folder is None or not folder.is_dir():
        return []
    config = read_json(folder, "config.json")
    judges = model.type is Kind.RERANKER and model_type(config) in JUDGES
    return comparison_note(config, "mlx_lm" if judges else PARTS[model.type])


def encoding(folder: Path) -> Callable[[str], list[int]]:
    """What tokenizer.json makes of a text, with what it adds; nothing is said of tokenizers without one."""

    def encode(text: str) -> list[int]:
        if not (folder / TOKENIZER_FILE).is_file():
            return []
        from tokenizers import Tokenizer

        try:
            found: list[int] = Tokenizer.from_file(str(folder / TOKENIZER_FILE)).encode(text).ids
        except Exception as error:  # noqa: BLE001 - tokenizers raises no narrower one
            raise NotAModel(folder, f"{TOKENIZER_FILE} can't be read: {error}") from None
        return found

    return encode
