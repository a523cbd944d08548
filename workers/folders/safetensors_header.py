"""The header of a safetensors file: names, types and shapes of its tensors (huggingface.co/docs/safetensors)."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import Annotated

import msgspec

MAX_HEADER_BYTES = 100 << 20
"""The format's own bound."""


Count = Annotated[int, msgspec.Meta(ge=0)]


class HeaderError(Exception):
    """Raised when a file is no safetensors file; the message says why."""


class Tensor(msgspec.Struct, frozen=True):
    """One tensor: `dtype` as the format names it (`F16`, `U32`, ...), `data_offsets` are bytes after the header."""

    dtype: str
    shape: list[Count]
    data_offsets: tuple[Count, Count]

    @property
    def size(self) -> int:
        """How many elements it has."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return self.data_offsets[1] - self.data_offsets[0]


def read_header(path: Path) -> dict[str, Tensor]:
    """The file's tensors by name; only the header is read. Raises HeaderError or OSError."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= MAX_HEADER_BYTES:
            raise HeaderError(f"{path.name} is no safetensors file")
        body = file.read(size)
        whole = os.fstat(file.fileno()).st_size
    if len(body) < size:
        raise HeaderError(f"{path.name} is cut off: its header alone has {size} bytes, and the file {whole}")
    try:
        found = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        found.pop("__metadata__", None)
        tensors = {name: msgspec.json.decode(raw, type=Tensor) for name, raw in found.items()}
    except msgspec.MsgspecError as error:
        raise HeaderError(f"{path.name} is no safetensors file: {error}") from None
    if any(tensor.nbytes < 0 for tensor in tensors.values()):
        raise HeaderError(f"{path.name} is no safetensors file: a tensor ends before it begins")
    end = 8 + size + max((tensor.data_offsets[1] for tensor in tensors.values()), default=0)
    if end > whole:
        raise HeaderError(f"{path.name} is cut off: it has {whole} of {end} bytes")
    return tensors


def parameters(tensors: dict[str, Tensor], bits: int | None) -> int:
    """How many numbers the tensors stand for. With `bits`, integers beside `scales` hold several each."""
    total = 0
    for name, tensor in tensors.items():
        stem, _, last = name.rpartition(".")
        packed = f"{stem}.scales" in tensors
        if packed and last == "weight" and bits:
            total += tensor.nbytes * 8 // bits
        elif not (packed and last in ("scales", "biases")):
            total += tensor.size
    return total
