"""One prefix and its KV states as a safetensors file: written from any thread, read on the engine's."""

from __future__ import annotations

import copy
import json
import mmap
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models import cache as caches

from mlx_server.workers.engine.kvcache import quantised, whole_windows
from mlx_server.workers.engine.kvcache.flatten import each
from mlx_server.workers.engine.kvcache.prefix_index import Beginning

Bytes = npt.NDArray[np.uint8]
"""The bytes of an array, [nbytes]."""

FORMAT = "mlx-server prefix 1"
IDS = "ids"
OURS: dict[str, Any] = {**quantised.CLASSES, **whole_windows.CLASSES}
DTYPES = {
    mx.float32: "F32",
    mx.float16: "F16",
    mx.bfloat16: "BF16",
    mx.int32: "I32",
    mx.int64: "I64",
    mx.uint32: "U32",
    mx.uint8: "U8",
    mx.bool_: "BOOL",
}


class BadFile(Exception):  # noqa: N818 - named for what it says
    """Raised when a file is not as it was written."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A cache's arrays, each contiguous, and the rest of its state, both by their paths in it."""

    arrays: dict[str, mx.array]
    rest: dict[str, Any]
    classes: list[str]

    @property
    def nbytes(self) -> int:
        """The bytes that its arrays take."""
        return sum(array.nbytes for array in self.arrays.values())


def snapshot(cache: list[Any]) -> Snapshot:
    """What a cache holds now; its evaluation has begun. Engine thread only."""
    arrays, rest = {}, {}
    for place, value in tree_flatten([each(layer, fitted).state for layer in cache]):
        if isinstance(value, mx.array):
            arrays[place] = mx.contiguous(value)
        else:
            rest[place] = value
    mx.async_eval(arrays)
    return Snapshot(arrays, rest, [type(layer).__name__ for layer in cache])


def fitted(layer: Any) -> Any:
    """A layer's cache, or a copy of it without the memory that it has for more tokens."""
    if isinstance(layer, caches.KVCache) and layer.keys is not None:
        layer = copy.copy(layer)
        layer.keys, layer.values = layer.keys_and_values()
    return layer


def class_of(name: str) -> Any:
    """A class of caches by its name: mlx-lm's or ours. Raises AttributeError."""
    return OURS.get(name) or getattr(caches, name)


def write(path: Path, entry: Beginning, taken: Snapshot) -> None:
    """Write a file as a whole or not at all. Raises OSError."""
    tensors: list[tuple[str, str, list[int], Bytes]] = [(IDS, "I32", [len(entry)], entry.ids.view(np.uint8))]
    tensors += [(name, DTYPES[array.dtype], list(array.shape), raw(array)) for name, array in taken.arrays.items()]
    header: dict[str, Any] = {}
    at = checksum = 0
    for name, dtype, shape, data in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + data.nbytes]}
        at += data.nbytes
        checksum = zlib.crc32(data.data, checksum)
    told = {"owner": entry.owner, "whole": entry.whole, "classes": taken.classes, "rest": taken.rest}
    header["__metadata__"] = {"format": FORMAT, "crc32": str(checksum), "told": json.dumps(told)}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    partial = path.with_suffix(".partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for _, _, _, data in tensors:
            file.write(data.data)
    partial.replace(path)


def raw(array: mx.array) -> Bytes:
    """An array's bytes uint8 [nbytes], evaluated and not copied. From any thread."""
    return np.ndarray((array.nbytes,), np.uint8, memoryview(array))  # type: ignore[arg-type]


def read_beginning(path: Path) -> Beginning:
    """The prefix that a file holds; of the KV states only the size is checked. Raises BadFile or OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header, start = read_header(file.read(8), file, size)
        try:
            told = json.loads(header["__metadata__"]["told"])
            first, last = header[IDS]["data_offsets"]
            file.seek(start + first)
            ids = np.frombuffer(file.read(last - first), np.int32)
            return Beginning(str(told["owner"]), ids, (), bool(told["whole"]))
        except (KeyError, ValueError, TypeError) as error:
            raise BadFile(f"{type(error).__name__}: {error}") from None


def read_header(prefix: bytes, file: Any, size: int) -> tuple[dict[str, Any], int]:
    """A file's header, and the offset of its data in bytes. Raises BadFile."""
    try:
        (length,) = struct.unpack("<Q", prefix)
        if length > size:
            raise BadFile("it is cut short")
        header = json.loads(file.read(length))
        if header["__metadata__"]["format"] != FORMAT:
            raise BadFile("it is of another kind")
        end = max(one["data_offsets"][1] for name, one in header.items() if name != "__metadata__")
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFile(f"{type(error).__name__}: {error}") from None
    if 8 + length + end != size:
        raise BadFile("it is cut short")
    return header, 8 + length


def read_cache(path: Path, classes: list[str]) -> list[Any]:
    """The cache in a file, evaluated, of layers of these classes. Engine thread only. Raises BadFile or OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header, start = read_header(file.read(8), file, size)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if zlib.crc32(memoryview(data)[start:]) != int(header["__metadata__"]["crc32"]):
                raise BadFile("its checksum is wrong")
    told = json.loads(header["__metadata__"]["told"])
    if told["classes"] != classes:
        raise BadFile("it is another model's")
    arrays: dict[str, mx.array] = mx.load(str(path), format="safetensors")  # type: ignore[assignment]
    arrays.pop(IDS, None)
    states = tree_unflatten([*arrays.items(), *told["rest"].items()])
    cache = [class_of(name).from_state(state) for name, state in zip(classes, states, strict=True)]
    mx.eval(arrays)
    return cache
