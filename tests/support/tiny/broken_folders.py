"""Folders that are no models, or none that can be served, each with what the user has to be told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file
from support.tiny.folders import LLAMA, make, make_gguf, make_snapshot

from mlx_server.app.config.settings import ModelType

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
VISION = {"model_type": "qwen3_vl", "vision_config": {}}


class Broken(NamedTuple):
    """How a folder is made below a root, which returns what the user gives; what the line about it has; how the user
    wants it served, if he says so."""

    make: Callable[[Path], Path]
    told: tuple[str, ...]
    served_as: ModelType | None = None


def config(found: dict[str, Any]) -> Callable[[Path], Path]:
    """A folder with a config like this and all its files."""
    return lambda root: make(root / "m", found)


def with_file(name: str, content: bytes | str, found: dict[str, Any] | None = None) -> Callable[[Path], Path]:
    """A folder of which one file has another content."""

    def write(root: Path) -> Path:
        folder = make(root / "m", found)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return folder

    return write


def without(name: str, *others: str, found: dict[str, Any] | None = None) -> Callable[[Path], Path]:
    """A folder of which one file is missing; empty `others` are there."""

    def write(root: Path) -> Path:
        folder = make(root / "m", found)
        (folder / name).unlink()
        for other in others:
            (folder / other).write_bytes(b"x")
        return folder

    return write


def quantised(found: dict[str, Any], name: str = "w.qweight", base: dict[str, Any] = LLAMA) -> Callable[[Path], Path]:
    """A folder of weights that others have quantised, one of which has this name."""
    return lambda root: make(root / "m", {**base, "quantization_config": found}, **{name: np.zeros((1, 1), np.int32)})


def empty(root: Path) -> Path:
    """Nothing."""
    (root / "m").mkdir()
    return root / "m"


def cut_off(root: Path) -> Path:
    """The beginning of the weights."""
    folder = make(root / "m")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    return folder


def shard_missing(root: Path) -> Path:
    """One of two files with weights."""
    folder = make(root / "m")
    (folder / "model.safetensors").unlink()
    save_file({"a": np.zeros(3, np.float16)}, folder / "model-00001-of-00002.safetensors")
    files = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / INDEX).write_text(json.dumps({"weight_map": files}))
    return folder


def peft_adapter(root: Path) -> Path:
    """What PEFT saves."""
    folder = empty(root)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base", "peft_type": "LORA"}')
    save_file({"a": np.zeros(3, np.float16)}, folder / "adapter_model.safetensors")
    return folder


def mlx_adapter(root: Path) -> Path:
    """What mlx-lm saves."""
    folder = empty(root)
    (folder / "adapter_config.json").write_text('{"fine_tune_type": "lora"}')
    save_file({"a": np.zeros(3, np.float16)}, folder / "adapters.safetensors")
    return folder


def folder_of_folder(root: Path) -> Path:
    """A folder with the model's folder in it."""
    make(root / "outer" / "inner")
    return root / "outer"


def repository(root: Path) -> Path:
    """A repository in the hub's cache."""
    make_snapshot(root, "owner/name", "abc")
    return root / "models--owner--name"


def gguf_inside(root: Path) -> Path:
    """A folder with a .gguf file and nothing else."""
    folder = empty(root)
    make_gguf(folder / "small.gguf")
    return folder


def gguf_beside(root: Path) -> Path:
    """A model's folder with a .gguf file in the place of weights."""
    folder = without("model.safetensors")(root)
    make_gguf(folder / "small.gguf")
    return folder


def pipeline(root: Path) -> Path:
    """What diffusers saves."""
    folder = empty(root)
    (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    return folder


def sentence_transformers(root: Path) -> Path:
    """What sentence-transformers saves."""
    folder = make(root / "m", {"model_type": "bert"})
    (folder / "modules.json").write_text("[]")
    return folder


def dotted(root: Path) -> Path:
    """A folder of whose weights only what macOS leaves beside them is there."""
    return without("model.safetensors", "._model.safetensors")(root)


def renamed(root: Path) -> Path:
    """Weights that have another name than mlx-lm looks for."""
    folder = make(root / "m")
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    return folder


BROKEN: dict[str, Broken] = {
    "an empty folder": Broken(empty, ("no config.json, it is empty", "Give the folder that holds")),
    "no config": Broken(without("config.json"), ("no config.json", "Give the folder that holds")),
    "a folder of a folder": Broken(folder_of_folder, ("The model lies in it: give ", "outer/inner")),
    "a repository of the hub's cache": Broken(repository, ("give its id, owner/name", "snapshots/abc")),
    "a folder with a .gguf file": Broken(gguf_inside, ("Give a .gguf file itself", "small.gguf")),
    "a diffusion pipeline": Broken(pipeline, ("FluxPipeline", "ZImagePipeline")),
    "a part of a pipeline": Broken(with_file("config.json", '{"_class_name": "UNet"}'), ("part of a diffusion",), "lm"),
    "an adapter of PEFT's": Broken(peft_adapter, ("PEFT", "org/base", "merge it")),
    "an adapter of mlx-lm's": Broken(mlx_adapter, ("--adapter-path",)),
    "a config that is no JSON": Broken(with_file("config.json", "{"), ("config.json can't be read", "no JSON")),
    "a config that is a list": Broken(with_file("config.json", "[]"), ("config.json is no JSON object",)),
    "a config that is a pointer": Broken(with_file("config.json", POINTER), ("config.json", "git lfs pull")),
    "no model type": Broken(with_file("config.json", '{"hidden_size": 4}'), ("config.json names no model_type",)),
    "an unknown type": Broken(config({"model_type": "opera"}), ("mlx-lm", "'opera'", "pip install -U mlx-lm")),
    "a type with cross-attention": Broken(config({**VISION, "model_type": "mllama"}), ("'mllama'", "its encoder")),
    "an unknown type that sees": Broken(config({**VISION, "model_type": "opera"}), ("mlx-vlm", "'opera'")),
    "a part that drafts": Broken(config({"model_type": "eagle3"}), ("hidden states", "--draft-model"), "lm"),
    "an encoder as lm": Broken(sentence_transformers, ("'bert'", "--model-type embeddings"), "lm"),
    "a model for pictures as lm": Broken(config({"model_type": "idefics3"}), ("'idefics3'", "--model-type vlm"), "lm"),
    "a writer as reranker": Broken(config(LLAMA), ("'llama'", "no reranker"), "rerank"),
    "a reranker as embeddings": Broken(
        config({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}),
        ("cross-encoder", "--model-type rerank"),
        "embeddings",
    ),
    "code of its own": Broken(config({**LLAMA, "model_file": "model.py"}), ("model_file", "never run")),
    "code of a tokenizer's": Broken(
        config({"model_type": "whisper", "auto_map": {"AutoTokenizer": "code.Tokenizer"}}),
        ("auto_map", "never run"),
        "audio",
    ),
    "a writer that shall speak": Broken(config(LLAMA), ("mlx-audio", "'llama'"), "audio"),
    "no weights": Broken(without("model.safetensors"), ("no weights (*.safetensors)", "download the model again")),
    "weights of PyTorch's": Broken(
        without("model.safetensors", "pytorch_model.bin"), ("pytorch_model.bin", "PyTorch's", "safetensors")
    ),
    "a .gguf file beside": Broken(gguf_beside, ("no weights", "Give its .gguf file itself", "small.gguf")),
    "what macOS leaves": Broken(dotted, ("no weights (*.safetensors)",)),
    "weights that are a pointer": Broken(
        with_file("model.safetensors", POINTER), ("model.safetensors", "git lfs pull")
    ),
    "weights that are cut off": Broken(cut_off, ("model.safetensors is cut off", "download the model again")),
    "a header that is cut off": Broken(
        with_file("model.safetensors", (1 << 20).to_bytes(8, "little") + b"{"),
        ("model.safetensors is cut off", "header"),
    ),
    "a shard that is missing": Broken(shard_missing, ("model-00002-of-00002.safetensors", INDEX, "is missing")),
    "weights of another name": Broken(renamed, ("model*.safetensors", "rename")),
    "no tokenizer": Broken(without("tokenizer.json"), ("no tokenizer (tokenizer.json)",)),
    "a vocabulary without its kind": Broken(without("tokenizer.json", "vocab.json"), ("no tokenizer",)),
    "a tokenizer that is a pointer": Broken(with_file("tokenizer.json", POINTER), ("tokenizer.json", "git lfs pull")),
    "a tokenizer that is no JSON": Broken(with_file("tokenizer.json", "not JSON"), ("tokenizer.json is no JSON",)),
    "a tokenizer's config that is no JSON": Broken(with_file("tokenizer_config.json", "{"), ("tokenizer_config.json",)),
    "no processor": Broken(without("preprocessor_config.json", found=VISION), ("no preprocessor_config.json",)),
    "bitsandbytes": Broken(quantised({"load_in_4bit": True}), ("bitsandbytes", "mlx-community")),
    "GPTQ in an order of its own": Broken(quantised({"quant_method": "gptq", "bits": 4}, "w.g_idx"), ("gptq", "g_idx")),
    "AWQ with 8 bits": Broken(quantised({"quant_method": "awq", "bits": 8}), ("awq", "8 bits")),
    "AWQ that sees": Broken(quantised({"quant_method": "awq", "bits": 4}, base=VISION), ("awq", "mlx-community")),
    "a compressed format": Broken(
        quantised({"quant_method": "compressed-tensors", "format": "float-quantized"}), ("float-quantized",)
    ),
}
