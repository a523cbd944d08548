"""One rule for the context, by what configurations say."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.tiny.encoders import make_encoder
from support.tiny.sighted_models import make_siglip
from support.tiny.vision_models import make_vision_model

from mlx_server.app.catalog.model_folder import read_model
from mlx_server.schemas.internal.messages import Load
from mlx_server.workers.folders.context_length import KEYS, context_length, longest_input, shortest
from mlx_server.workers.handlers import make_handler


def scaled(kind: str, **more: int) -> dict[str, Any]:
    """A config that stretches a first training of 32k tokens fourfold."""
    rope = {"rope_type": kind, "factor": 4.0, "original_max_position_embeddings": 32768}
    return {"max_position_embeddings": 40960, "rope_scaling": rope, **more}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"max_sequence_length": 100}, 100),
        ({"n_positions": 1024}, 1024),
        ({"max_seq_len": 2048}, 2048),
        ({"n_ctx": 2048, "n_positions": 1024}, 1024),
        ({"model_max_length": 131072, "max_position_embeddings": 4096}, 4096),
        ({"text_config": {"max_position_embeddings": 4096}}, 4096),
        ({"max_position_embeddings": 8192, "text_config": {"max_position_embeddings": 4096}}, 4096),
        ({"max_position_embeddings": 8192, "text_config": {"hidden_size": 64}}, 8192),
        ({"language_config": {"max_position_embeddings": 2048}}, 2048),
        ({"max_position_embeddings": None, "n_positions": 7}, 7),
        ({"max_position_embeddings": "many"}, None),
        ({"max_position_embeddings": True}, None),
        ({"text_config": None}, None),
        (scaled("yarn"), 131072),
        (scaled("yarn", max_position_embeddings=131072), 131072),
        (scaled("yarn", max_position_embeddings=262144), 262144),
        ({"text_config": scaled("yarn"), "vision_config": {}}, 131072),
        ({**scaled("yarn"), "rope_scaling": None, "rope_parameters": scaled("yarn")["rope_scaling"]}, 131072),
        ({"max_position_embeddings": 8, "rope_parameters": {"full_attention": scaled("yarn")["rope_scaling"]}}, 131072),
        ({"max_position_embeddings": 40960, "rope_scaling": {"type": "yarn", "factor": 4.0}}, 40960),
        (scaled("linear"), 40960),
        (scaled("llama3"), 40960),
        (scaled("longrope"), 40960),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1, "vocab_size": 9}, 512),
        ({}, None),
    ],
)
def test_context_length_is_the_language_models(config: dict[str, Any], expected: int | None) -> None:
    assert context_length(config) == expected


@pytest.mark.parametrize(
    ("config", "tokenizer", "sentences", "writes", "encodes"),
    [
        ({"max_position_embeddings": 512}, None, None, 512, 512),
        ({"max_position_embeddings": 163840}, 16384, None, 163840, 16384),
        ({"max_position_embeddings": 512}, 10**30, None, 512, 512),
        ({"max_position_embeddings": 512}, 384, 256, 512, 256),
        ({}, 2048, None, 2048, 2048),
        ({}, 10**30, None, None, None),
        ({"model_type": "qwen3_vl_embedding", "max_position_embeddings": 262144}, None, None, 262144, 32768),
    ],
    ids=range(7),
)
def test_tokenizer_counts_for_encoders_and_where_nothing_else_tells(
    config: dict[str, Any],
    tokenizer: int | None,
    sentences: int | None,
    writes: int | None,
    encodes: int | None,
    tmp_path: Path,
) -> None:
    if tokenizer is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": tokenizer}))
    if sentences is not None:
        (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": sentences}))
        (tmp_path / "._sentence_bert_config.json").write_bytes(b"\0")
    assert longest_input(tmp_path, config, encodes=False) == writes
    assert longest_input(tmp_path, config, encodes=True) == encodes


def change(folder: Path, name: str, **values: Any) -> None:
    """Put values into a JSON file."""
    found = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(found | values))


def yarn(tiny_model: Callable[[str], Path], folder: Path) -> Path:
    shutil.copytree(tiny_model("llama"), folder)
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
    change(folder, "config.json", rope_scaling=rope)
    return folder


def unsaid(tiny_model: Callable[[str], Path], folder: Path) -> Path:
    shutil.copytree(tiny_model("mamba"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k not in KEYS}))
    change(folder, "tokenizer_config.json", model_max_length=2048)
    return folder


def cut(tiny_model: Callable[[str], Path], folder: Path) -> Path:
    make_encoder(folder, "bert")
    change(folder, "tokenizer_config.json", model_max_length=40)
    return folder


MODELS: dict[str, tuple[Callable[[Callable[[str], Path], Path], Path], str, int]] = {
    "as it is": (lambda tiny_model, folder: tiny_model("llama"), "lm", 512),
    "stretched": (yarn, "lm", 1024),
    "only by the tokenizer": (unsaid, "lm", 2048),
    "that sees": (lambda tiny_model, folder: make_vision_model(made(folder), "gemma3"), "vlm", 2048),
    "from the padding on": (lambda tiny_model, folder: make_encoder(folder, "xlm-roberta"), "embeddings", 62),
    "cut by the tokenizer": (cut, "embeddings", 40),
    "reranker": (lambda tiny_model, folder: make_encoder(folder, "bert", classifier=True), "rerank", 64),
    "with pictures": (lambda tiny_model, folder: make_siglip(made(folder)), "embeddings", 16),
}


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.model
@pytest.mark.parametrize(("make", "kind", "length"), MODELS.values(), ids=MODELS)
def test_context_is_the_same_before_a_model_is_loaded_and_after(
    make: Callable[[Callable[[str], Path], Path], Path],
    kind: str,
    length: int,
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    folder = make(tiny_model, tmp_path / "m")
    handler = make_handler(kind)
    facts = handler.load(Load(str(folder), kind, 2, 512, str(tmp_path)), lambda report: None)
    handler.close()
    assert (read_model(folder).context_length, facts.context_length) == (length, length)


def test_shortest_length_counts() -> None:
    assert (shortest(5, None, 3), shortest(None), shortest()) == (3, None, None)
