"""Folders and files that look like models, without weights that mean anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter
from safetensors.numpy import save_file

LLAMA: dict[str, Any] = {"model_type": "llama"}


def make(folder: Path, config: Any = None, **tensors: np.ndarray[Any, Any]) -> Path:
    """A model folder that has all its files; a llama, unless its config says something else."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or LLAMA))
    (folder / "tokenizer.json").write_text("{}")
    if "vision_config" in (config or {}):
        (folder / "preprocessor_config.json").write_text("{}")
    save_file(tensors or {"w": np.zeros((3, 4), np.float16)}, folder / "model.safetensors")
    return folder


def make_gguf(path: Path) -> Path:
    """A .gguf file of a llama with a context of 512 tokens."""
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_embedding_length(32)
    writer.add_context_length(512)
    writer.add_file_type(3)
    writer.add_token_list(["a", "b", "ü"])
    writer.add_token_scores([0.0, 1.0, 2.0])
    writer.add_name("small")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def make_snapshot(hub: Path, hub_id: str, commit: str) -> Path:
    """A repository in the hub's cache, its main branch at a commit; returns the commit's folder."""
    repository = hub / f"models--{hub_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    return make(repository / "snapshots" / commit)
