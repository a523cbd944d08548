"""Models on disk, read without loading them: their configuration and the headers of their weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mlx_server.app.catalog import classify
from mlx_server.app.catalog.gguf_header import GgufHeaderError
from mlx_server.app.catalog.gguf_header import read_header as read_gguf_header
from mlx_server.app.catalog.kinds import Kind
from mlx_server.app.catalog.model_facts import ModelOnDisk
from mlx_server.workers.folders.context_length import context_length, longest_input, number
from mlx_server.workers.folders.gguf_parts import MissingPartsError, is_later_part, parts_of
from mlx_server.workers.folders.known_types import drafts
from mlx_server.workers.folders.model_files import PIPELINE, NotAModel, is_described, read_json, read_tensors, visible
from mlx_server.workers.folders.picture_memory import read_drawing_size
from mlx_server.workers.folders.picture_types import draws, pipeline
from mlx_server.workers.folders.safetensors_header import HeaderError, parameters

POOLING = ("modules.json", "1_Pooling/config.json")
DEEPEST = 4
"""How many folders deep models are looked for."""

GGUF_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    32: "BF16",
}
"""`general.file_type` in words (llama.cpp, llama_ftype)."""


def read_model(path: Path) -> ModelOnDisk:
    """What this folder or .gguf file is. Raises NotAModel."""
    return read_folder(path) if path.is_dir() else read_gguf(path)


def read_folder(path: Path) -> ModelOnDisk:
    """What this folder holds. Raises NotAModel."""
    if (path / PIPELINE).is_file():
        return read_pipeline(path)
    config = read_json(path, "config.json")
    words, bits = classify.quantisation(config)
    kind = classify.classify(config, pooled=any((path / name).is_file() for name in POOLING), name=path.name)
    tensors = read_tensors(path)
    return ModelOnDisk(
        path,
        kind,
        str(config.get("model_type") or "unknown"),
        words,
        sum(tensor.nbytes for tensor in tensors.values()),
        parameters(tensors, bits),
        longest_input(path, config, encodes=kind in (Kind.EMBEDDING, Kind.RERANKER)),
        classify.head_bytes_per_token(config) if drafts(config) else classify.kv_bytes_per_token(config),
        window_share=classify.window_share(config),
    )


def read_pipeline(path: Path) -> ModelOnDisk:
    """What this folder of a model that draws holds, of one that is not served only its size. Raises NotAModel."""
    name = pipeline(path)
    if draws(path) is None:
        sizes = sum(file.stat().st_size for file in visible(path.rglob("*.safetensors")))
        return ModelOnDisk(path, Kind.IMAGE, name, None, sizes)
    try:
        size = read_drawing_size(path)
    except (HeaderError, OSError) as error:
        raise NotAModel(path, str(error)) from None
    return ModelOnDisk(
        path, Kind.IMAGE, name, size.quantisation, size.stored_bytes, size.parameters, step_bytes=size.step_bytes
    )


def read_gguf(path: Path) -> ModelOnDisk:
    """What this file holds, and the parts that belong to it. Raises NotAModel."""
    try:
        parts = parts_of(path)
        headers = [read_gguf_header(part) for part in parts]
        size = sum(part.stat().st_size for part in parts)
    except (GgufHeaderError, MissingPartsError, OSError) as error:
        raise NotAModel(path, str(error)) from None
    metadata = headers[0].metadata
    name = str(metadata.get("general.architecture", "unknown"))

    def value(key: str) -> int | None:
        return number(metadata, f"{name}.{key}")

    config = {
        "num_hidden_layers": value("block_count"),
        "num_attention_heads": value("attention.head_count"),
        "num_key_value_heads": value("attention.head_count_kv"),
        "hidden_size": value("embedding_length"),
        "head_dim": value("attention.key_length"),
        "max_position_embeddings": value("context_length"),
    }
    return ModelOnDisk(
        path,
        Kind.EMBEDDING if "bert" in name else Kind.LANGUAGE,
        name,
        GGUF_TYPES.get(metadata.get("general.file_type", -1)),
        size,
        sum(header.parameters for header in headers) or number(metadata, "general.parameter_count"),
        context_length(config),
        classify.kv_bytes_per_token(config),
    )


def find_models(root: Path) -> Iterator[ModelOnDisk]:
    """The models in a folder and the folders in it, in the order of their paths; what is none is passed over."""
    for path in sorted(candidates(root, DEEPEST, set())):
        try:
            yield read_model(path)
        except NotAModel:
            continue


def candidates(root: Path, depth: int, seen: set[Path]) -> Iterator[Path]:
    """Folders with a model's configuration and .gguf files, of parts the first. Links are followed, and nothing is
    looked at twice."""
    if (real := root.resolve()) in seen:
        return
    seen.add(real)
    if is_described(root):
        yield root
        return
    try:
        entries = list(root.iterdir())
    except OSError:
        return
    for entry in entries:
        if is_gguf(entry) and not is_later_part(entry):
            yield entry
        elif depth and entry.is_dir() and not entry.name.startswith("."):
            yield from candidates(entry, depth - 1, seen)


def is_gguf(path: Path) -> bool:
    """Whether a path is that of a .gguf file, and not of what macOS leaves beside one."""
    return path.suffix == ".gguf" and not path.name.startswith("._") and path.is_file()
