"""What a model's folder holds, read without loading it. The front end and the worker ask the same."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlx_server.workers.folders.safetensors_header import HeaderError, Tensor, read_header

INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
PIPELINE = "model_index.json"
MODULES = "modules.json"
POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins that git keeps in the place of a large one."""

AGAIN = "download the model again"
WHOLE = "Give the folder that holds config.json, the weights and the tokenizer"
OTHER_WEIGHTS = {
    ".bin": "PyTorch's",
    ".pt": "PyTorch's",
    ".pth": "PyTorch's",
    ".h5": "TensorFlow's",
    ".msgpack": "Flax'",
    ".onnx": "ONNX'",
    ".npz": "numpy's",
}
"""Weights that are not read, by the ends of their files' names."""

CACHED = "models--"
"""What the folders of repositories are called in the hub's cache."""


class NotAModel(Exception):  # noqa: N818 - named for the fact
    """Raised when a folder or a file holds no model; the message is one line and names it."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is not a model: {why}.")


def visible(files: Iterable[Path]) -> list[Path]:
    """The files in order, without those that macOS leaves beside others on foreign disks (`._name`)."""
    return sorted(file for file in files if not file.name.startswith("._"))


def is_described(folder: Path) -> bool:
    """Whether there is a file that says what a model in this folder is."""
    return any((folder / name).is_file() for name in ("config.json", PIPELINE))


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object from a file of the folder. Raises NotAModel."""
    try:
        content = (folder / name).read_bytes()
    except FileNotFoundError:
        raise NotAModel(folder, without_config(folder) if name == "config.json" else f"it has no {name}") from None
    except OSError as error:
        raise NotAModel(folder, f"{name} can't be read: {error.strerror or error}") from None
    check_pointer(folder, name, content)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise NotAModel(folder, f"{name} can't be read, as it is no JSON ({error}): {AGAIN}") from None
    if not isinstance(found, dict):
        raise NotAModel(folder, f"{name} is no JSON object: {AGAIN}")
    return found


def check_pointer(folder: Path, name: str, content: bytes | None = None) -> None:
    """Refuse what stands in the place of a large file in a git repository. Raises NotAModel or OSError."""
    if content is None:
        with (folder / name).open("rb") as file:
            content = file.read(len(POINTER))
    if content.startswith(POINTER):
        raise NotAModel(
            folder, f"{name} is a Git LFS pointer and not the file itself: run `git lfs pull` in the folder, or {AGAIN}"
        )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files with the weights; `consolidated` ones, which hold them once more, only without others."""
    files = visible(folder.glob("*.safetensors"))
    return [file for file in files if not file.name.startswith("consolidated")] or files


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder's weights, by their names. Raises NotAModel, also where some are missing."""
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        try:
            check_pointer(folder, file.name)
            tensors |= read_header(file)
        except HeaderError as error:
            raise NotAModel(folder, f"{error}: {AGAIN}") from None
        except OSError as error:
            raise NotAModel(folder, f"{file.name} can't be read ({error.strerror or error}): {AGAIN}") from None
    if (folder / INDEX).is_file():
        check_shards(folder, tensors)
    if not tensors:
        raise NotAModel(folder, without_weights(folder))
    return tensors


def check_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Refuse weights of which a file is missing. An index of other files is passed over, if all that it names is
    there: conversions leave such. Raises NotAModel.
    """
    shards = read_json(folder, INDEX).get("weight_map")
    if not isinstance(shards, dict):
        raise NotAModel(folder, f"{INDEX} has no weight_map: {AGAIN}")
    files = {str(file) for tensor, file in shards.items() if tensor not in tensors}
    missing = sorted(file for file in files if not (folder / file).is_file())
    if missing:
        more = f" with {len(missing) - 1} more" if len(missing) > 1 else ""
        raise NotAModel(folder, f"{missing[0]}, which {INDEX} names, is missing{more}: {AGAIN}")


def without_config(folder: Path) -> str:
    """What a folder is that has no config.json, and what to give instead."""
    none = "it has no config.json"
    names = [entry.name for entry in visible(folder.iterdir())]
    if not names:
        return f"{none}, it is empty. {WHOLE}"
    if PIPELINE in names:
        return f"{none}, but {PIPELINE}: it is a diffusion pipeline, which draws: serve it with --model-type image"
    if ADAPTER in names:
        return f"{none}. {adapter(folder)}"
    if MODULES in names:
        return f"{none} beside {MODULES}: load it with sentence-transformers and save it again"
    if inner := inner_models(folder):
        return f"{none}. {instead(folder, inner)}"
    if files := [name for name in names if name.endswith(".gguf")]:
        return f"{none}. Give a .gguf file itself: {folder / files[0]}"
    if "params.json" in names:
        return f"{none}, but params.json: its weights are in the format of their makers. Take those for transformers"
    return f"{none}. {WHOLE}"


def inner_models(folder: Path) -> list[Path]:
    """Folders in a folder that hold models; those of the hub's cache lie deeper."""
    patterns = ("*/config.json", "snapshots/*/config.json", f"{CACHED}*/snapshots/*/config.json")
    return [path.parent for pattern in patterns for path in visible(folder.glob(pattern))]


def instead(folder: Path, inner: list[Path]) -> str:
    """What to give instead of a folder of models."""
    if folder.name.startswith(CACHED):
        hub_id = folder.name.removeprefix(CACHED).replace("--", "/", 1)
        return f"It is a repository in the hub's cache: give its id, {hub_id}, or its snapshot, {inner[0]}"
    if len(inner) == 1:
        return f"The model lies in it: give {inner[0]}"
    return f"It holds {len(inner)} models: give one of them, such as {inner[0]}"


def adapter(folder: Path) -> str:
    """What to do with an adapter's folder, which holds no model of its own."""
    try:
        base = json.loads((folder / ADAPTER).read_bytes()).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    of = f", {base}," if isinstance(base, str) and base else ""
    if (folder / "adapters.safetensors").is_file():
        return f"It is an adapter: give its base model{of} as the model, and this folder as --adapter-path"
    return f"It is an adapter in PEFT's format: merge it into its base model{of} with PEFT, and serve the result"


def without_weights(folder: Path) -> str:
    """What a folder holds instead of weights, and what to do."""
    none = "it has no weights (*.safetensors)"
    files = visible(folder.iterdir())
    if gguf := [file for file in files if file.suffix == ".gguf"]:
        return f"{none}. Give its .gguf file itself: {gguf[0]}"
    if (folder / ADAPTER).is_file():
        return f"{none}. {adapter(folder)}"
    for file in files:
        if kind := OTHER_WEIGHTS.get(file.suffix):
            return (
                f"{none}, but {kind} ({file.name}), which MLX does not read: take a version of it with safetensors,"
                " or save it again with transformers, which writes them"
            )
    return f"{none}: {AGAIN}, as a whole"
