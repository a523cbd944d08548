"""What nobody looks at in the settings of a model on disk: of the model, of its answers, of its tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_server.app.catalog.model_facts import Kind
from mlx_server.app.registry.rows import ModelRow
from mlx_server.workers.folders.known_types import Library
from mlx_server.workers.folders.model_files import NotAModel, read_json
from mlx_server.workers.folders.unread_keys import at, unread_keys, usual_config
from mlx_server.workers.folders.unread_settings import (
    GENERATION,
    GENERATION_CHANGES,
    TOKENIZER,
    unread_generation,
    unread_tokenizer,
)

LIBRARIES: dict[Kind, Library] = {Kind.LANGUAGE: "mlx_lm", Kind.VISION: "mlx_vlm"}
"""Whose classes compute models of a kind. Encoders are computed by classes of this server, which refuse the rest."""

TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True)
class UnreadKey:
    """A key of a file that says something, and what transformers has for it where a file says nothing; None if it has
    nothing or does not know the type."""

    file: str
    key: str
    value: Any
    usual: Any


def unread_of(model: ModelRow) -> list[UnreadKey]:
    """The keys of the files of a model in a folder. Raises NotAModel."""
    folder = Path(model.path or "")
    library = LIBRARIES.get(model.type)
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
