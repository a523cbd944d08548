"""gguf2mlx 2.2, with its faults worked around here and nowhere else.

- It takes each Gemma 3 for a model that sees pictures, and refuses it without the original's files from a hub.
- It leaves llama.cpp's 1 in the norms of Gemma 3's queries and keys, which mlx-lm adds again.
- It takes each model for a Phi 4 whose name says so, whatever its architecture.
- It reads one file of a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf2mlx.gguf2mlx as core
from gguf2mlx import vlm

from mlx_server.workers.engine.from_gguf.source import SourceError, WholeReader

GEMMA3 = "gemma3"
HEAD_NORM = re.compile(r"blk\.\d+\.attn_[qk]_norm\.weight")


def convert_weights(reader: WholeReader, output: Path, dtype: str) -> bool:
    """Write config.json, the tokenizer's files and the weights; it tells its steps, and why it fails, on standard
    output. Raises SourceError for models that it would take with further files only, which nobody can name here."""
    with mended(reader):
        if vlm.is_vlm(reader):
            raise SourceError(
                "it is a model that sees pictures, which are not converted from GGUF:"
                " give it as an MLX folder or a hub repository"
            )
        return bool(core.convert(str(reader.path), str(output), dtype))


@contextmanager
def mended(reader: WholeReader) -> Iterator[None]:
    """The library, reading all parts of a model through this reader."""
    kept = core.GGUFReader, core.detect_architecture, vlm.VLM_ARCHITECTURES, core._restore_architecture_tensor
    core.GGUFReader = lambda _: reader
    core.detect_architecture = detected(core.detect_architecture)
    vlm.VLM_ARCHITECTURES = vlm.VLM_ARCHITECTURES - {GEMMA3}
    core._restore_architecture_tensor = restored(core._restore_architecture_tensor)
    try:
        yield
    finally:
        core.GGUFReader, core.detect_architecture, vlm.VLM_ARCHITECTURES, core._restore_architecture_tensor = kept


def detected(detect: Any) -> Any:
    """The library's function that finds out the architecture, by the name only where the name has a say."""

    def found(reader: Any) -> str:
        said = core.get_metadata_str(reader, "general.architecture")
        by_name = not said or said in core.PHI_ARCHES
        return str(detect(reader) if by_name else said)

    return found


def restored(restore: Any) -> Any:
    """The library's function that undoes what llama.cpp's converter did to a tensor, for all of Gemma 3's norms."""

    def whole(name: str, array: Any, architecture: str) -> Any:
        if architecture == GEMMA3 and HEAD_NORM.fullmatch(name):
            return array - array.dtype.type(1)
        return restore(name, array, architecture)

    return whole
