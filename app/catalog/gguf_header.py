"""The metadata of a .gguf file, without its weights (github.com/ggml-org/ggml, docs/gguf.md)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

MAX_ENTRIES = 100_000
MAX_STRING = 16 << 20
MAX_DIMENSIONS = 8
MAX_PARAMETERS = 1 << 50
STRING, ARRAY = 8, 9
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Types of values, by the number that the format gives them, as `struct` names them."""


class GgufHeaderError(Exception):
    """Raised when a file is no GGUF file that can be read; the message says why."""


@dataclass(frozen=True)
class GgufHeader:
    """What a file says before its weights. `metadata`: of arrays, which hold vocabularies, only the length.

    `parameters` are the numbers in all its tensors, packed ones counted one by one.
    """

    metadata: dict[str, Any]
    parameters: int


def read_header(path: Path) -> GgufHeader:
    """The file's keys and values, and how large its tensors are. Raises GgufHeaderError."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise GgufHeaderError(f"{path.name} is not a GGUF file: download it again")
            version, tensors, count = read(file, "IQQ")
            if version not in (2, 3):
                raise GgufHeaderError(f"{path.name} is no GGUF file of version 2 or 3")
            if max(count, tensors) > MAX_ENTRIES:
                raise GgufHeaderError(f"{path.name} has {max(count, tensors)} entries, which no model has")
            metadata = {read_string(file): read_value(file, *read(file, "I")) for _ in range(count)}
            parameters = sum(read_tensor_size(file) for _ in range(tensors))
            if parameters > MAX_PARAMETERS:
                raise GgufHeaderError(f"{path.name} has {parameters:.0e} parameters, which no model has")
            return GgufHeader(metadata, parameters)
    except (struct.error, OSError, ValueError, OverflowError) as error:
        raise GgufHeaderError(f"{path.name} can't be read: {error}") from None


def read_tensor_size(file: BinaryIO) -> int:
    """How many numbers the next tensor has; its name, type and place are passed over. Raises GgufHeaderError."""
    read_string(file)
    (dimensions,) = read(file, "I")
    if dimensions > MAX_DIMENSIONS:
        raise GgufHeaderError(f"a tensor has {dimensions} dimensions, which none has")
    shape = read(file, f"{dimensions}Q")
    read(file, "IQ")
    return prod(shape)


def read(file: BinaryIO, form: str) -> tuple[Any, ...]:
    """Numbers, little-endian. Raises struct.error at the file's end."""
    return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))


def read_string(file: BinaryIO) -> str:
    """A string after its length. Raises GgufHeaderError for one that is too long."""
    (size,) = read(file, "Q")
    if size > MAX_STRING:
        raise GgufHeaderError("a string is too long")
    return file.read(size).decode()


def read_value(file: BinaryIO, kind: int) -> Any:
    """A number, a string, or the length of an array. Raises GgufHeaderError for an unknown type."""
    if kind == STRING:
        return read_string(file)
    if kind == ARRAY:
        inner, length = read(file, "IQ")
        skip_items(file, inner, length)
        return length
    if kind not in NUMBERS:
        raise GgufHeaderError(f"{kind} is no type of value")
    return read(file, NUMBERS[kind])[0]


def skip_items(file: BinaryIO, kind: int, length: int) -> None:
    """Go behind an array's items. Raises GgufHeaderError for arrays of arrays, which no file has."""
    if kind in NUMBERS:
        file.seek(length * struct.calcsize(NUMBERS[kind]), 1)
        return
    if kind != STRING:
        raise GgufHeaderError("arrays of arrays are not read")
    for _ in range(length):
        (size,) = read(file, "Q")
        file.seek(size, 1)
