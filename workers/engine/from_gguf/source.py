"""A GGUF model, in one file or several, as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from gguf.gguf_reader import ReaderField

BESIDE = 64 << 20
"""What the files beside the weights take at most, in bytes."""


class SourceError(Exception):
    """Raised when a GGUF model can't become an MLX folder; the message is one line and says why."""


class WholeReader(GGUFReader):
    """Reads all parts of a model. The first has the metadata; `asked` are its keys that anybody has looked at."""

    def __init__(self, parts: list[Path]) -> None:
        super().__init__(parts[0])
        self.path = parts[0]
        self.asked: set[str] = set()
        for part in parts[1:]:
            self.tensors += GGUFReader(part).tensors

    def get_field(self, key: str) -> ReaderField | None:
        """As in the library, and noted."""
        self.asked.add(key)
        return super().get_field(key)


class Metadata(Mapping[str, Any]):
    """What a file says, by key."""

    def __init__(self, reader: GGUFReader) -> None:
        self._reader = reader

    def __getitem__(self, key: str) -> Any:
        field = self._reader.get_field(key)
        if field is None:
            raise KeyError(key)
        return field.contents()

    def __iter__(self) -> Iterator[str]:
        return iter(self._reader.fields)

    def __len__(self) -> int:
        return len(self._reader.fields)


def open_source(parts: list[Path]) -> WholeReader:
    """A reader of all parts. Raises SourceError for a file that can't be read, lacks parts, or is no language model."""
    try:
        reader = WholeReader(parts)
    except (ValueError, KeyError, IndexError, OSError, UnicodeDecodeError) as error:
        raise SourceError(f"it can't be read: {error}") from error
    metadata = Metadata(reader)
    check_whole(metadata, len(parts), len(reader.tensors))
    check_kind(metadata)
    return reader


def check_whole(metadata: Mapping[str, Any], parts: int, tensors: int) -> None:
    """Raises SourceError where the model has more than what lies here."""
    count, all_tensors = metadata.get("split.count", 0), metadata.get("split.tensors.count", tensors)
    if count > 1 and count != parts:
        raise SourceError(
            f"it is one of the {count} parts of a model (split.count): name them as gguf-split does,"
            f" …-00001-of-{count:05}.gguf and so on, and give any of them"
        )
    if all_tensors != tensors:
        raise SourceError(f"its parts have {tensors} of the {all_tensors} tensors that split.tensors.count names")


def check_kind(metadata: Mapping[str, Any]) -> None:
    """Raises SourceError for what is no language model by itself."""
    kind = metadata.get("general.type", "model")
    if kind == "mmproj" or metadata.get("general.architecture") == "clip":
        raise SourceError("it is the vision part of a model (mmproj): give the .gguf file of its language model")
    if kind != "model":
        raise SourceError(f"it holds no model but general.type {kind!r}")


def check_room(reader: WholeReader, dtype: str, free: int) -> None:
    """Raises SourceError where what becomes of it would not fit into so many bytes of disk."""
    needed = int(sum(tensor.n_elements for tensor in reader.tensors)) * np.dtype(dtype).itemsize + BESIDE
    if needed > free:
        raise SourceError(
            f"not enough disk space: it takes {needed / 1e9:.1f} GB in {dtype}, {free / 1e9:.1f} GB are free in the"
            " folder of --cache-dir"
        )
