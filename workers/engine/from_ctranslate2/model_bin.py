"""CTranslate2's model.bin: a header, then named arrays one after the other, little-endian.

The format is that of CTranslate2's `ModelSpec.save` (python/ctranslate2/specs/model_spec.py), version 6.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

VERSION = 6
DTYPES = ("float32", "int8", "int16", "int32", "float16")
"""By their number in the file."""


class ModelBinError(Exception):
    """Raised when a file is no model.bin, or one that is not read here; the message is one line."""


@dataclass(frozen=True, slots=True)
class ModelBin:
    """What a file holds: the kind of model, and its arrays by names such as `encoder/conv1/weight`."""

    spec: str
    arrays: dict[str, mx.array]


class Cursor:
    """Reads values one after the other; raises `ModelBinError` where the file ends too early."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._at = 0

    def take(self, size: int) -> memoryview:
        """The next bytes."""
        taken = self._content[self._at : self._at + size]
        if len(taken) < size:
            raise ModelBinError("the file ends in the middle of an array: it is not whole")
        self._at += size
        return taken

    def numbers(self, form: str) -> tuple[int, ...]:
        """Unsigned numbers as `struct` names them."""
        form = f"<{form}"
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def text(self) -> str:
        """A string with its length before it and a zero after it."""
        (size,) = self.numbers("H")
        return bytes(self.take(size)[:-1]).decode()


def read_model_bin(path: Path) -> ModelBin:
    """Read a whole file. Raises `ModelBinError` or `OSError`."""
    cursor = Cursor(path.read_bytes())
    (version,) = cursor.numbers("I")
    if version != VERSION:
        raise ModelBinError(f"it is no model.bin of version {VERSION} (its first number is {version})")
    spec = cursor.text()
    _revision, count = cursor.numbers("II")
    arrays = dict(_array(cursor) for _ in range(count))
    return ModelBin(spec, arrays)


def _array(cursor: Cursor) -> tuple[str, mx.array]:
    name = cursor.text()
    (rank,) = cursor.numbers("B")
    shape = cursor.numbers(f"{rank}I")
    dtype, size = cursor.numbers("BI")
    if dtype >= len(DTYPES):
        raise ModelBinError(f"{name} has an unknown type of number ({dtype})")
    return name, mx.array(np.frombuffer(cursor.take(size), DTYPES[dtype]).reshape(shape))
