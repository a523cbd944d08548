"""`python -m mlx_server.workers.engine.from_gguf.convert OUTPUT DTYPE PART...`: a GGUF model as an MLX folder.

Steps are told on standard output, and why it failed in a line that begins with ❌, as gguf2mlx does.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from mlx_server.workers.engine.from_gguf import vocabulary
from mlx_server.workers.engine.from_gguf.endings import endings
from mlx_server.workers.engine.from_gguf.library import convert_weights
from mlx_server.workers.engine.from_gguf.model_config import OWN_CODE, completed
from mlx_server.workers.engine.from_gguf.sampling import recommended
from mlx_server.workers.engine.from_gguf.source import Metadata, SourceError, WholeReader, check_room, open_source
from mlx_server.workers.engine.from_gguf.unread import unread, unread_notes
from mlx_server.workers.engine.loading.loading import read_model
from mlx_server.workers.errors import ModelLoadError, one_line
from mlx_server.workers.folders.conversion_notes import write_notes
from mlx_server.workers.folders.unread.settings import GENERATION

OUTPUT = "output.weight"
"""The layer that models lack whose embedding takes its place."""


def convert(parts: list[Path], output: Path, dtype: str) -> bool:
    """Whether the folder is there now and can be loaded; where gguf2mlx could not, it has said why. Raises
    SourceError."""
    reader = open_source(parts)
    output.mkdir(parents=True, exist_ok=True)
    check_room(reader, dtype, shutil.disk_usage(output).free)
    if not convert_weights(reader, output, dtype):
        return False
    write_notes(output, complete(output, reader))
    try:
        read_model(output, "native")
    except ModelLoadError as error:
        raise SourceError(f"what becomes of it can't be loaded: {one_line(error.__cause__ or error)}") from error
    return True


def complete(folder: Path, reader: WholeReader) -> list[str]:
    """Add to a folder what gguf2mlx leaves out; returns what can't be."""
    metadata, path = Metadata(reader), folder / "config.json"
    written = vocabulary.read(path)
    architecture = str(metadata.get("general.architecture", written["_gguf_architecture"]))
    ends = endings(metadata, metadata["tokenizer.ggml.tokens"])
    has_output = any(tensor.name == OUTPUT for tensor in reader.tensors)
    config, notes = completed(written, metadata, architecture, ends, has_output=has_output)
    notes += vocabulary.put_right(folder, metadata, ends)
    if sampled := recommended(metadata):
        merge(folder / GENERATION, sampled)
    notes += unread_notes(unread(metadata, reader.asked, architecture, config))
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")
    if OWN_CODE in written:
        (folder / written[OWN_CODE]).unlink()
    return notes


def merge(path: Path, content: dict[str, Any]) -> None:
    """Add to a JSON file, or make it."""
    there = vocabulary.read(path) if path.is_file() else {}
    vocabulary.write(path, there | content)


def main() -> int:
    """Entry point; returns the exit code."""
    output, dtype, *parts = sys.argv[1:]
    try:
        return 0 if convert([Path(part) for part in parts], Path(output), dtype) else 1
    except SourceError as error:
        print(f"❌ {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
