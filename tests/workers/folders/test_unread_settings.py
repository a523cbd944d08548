"""What of generation_config.json and tokenizer_config.json nobody looks at."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from mlx_server.app.cli.models_cli import model_in_folder
from mlx_server.app.doctor.unread import UnreadKey, unread_of
from mlx_server.workers.folders.model_files import NotAModel
from mlx_server.workers.folders.unread.settings import (
    GENERATION,
    GENERATION_CHANGES,
    GENERATION_HARMLESS,
    GENERATION_HARMLESS_PARTS,
    GENERATION_READ,
    TOKENIZER,
    generation_notes,
    tokenizer_notes,
    unread_generation,
    unread_tokenizer,
)

BOS, EOS = 1, 2


def plain(text: str) -> list[int]:
    return [ord(char) for char in text]


def between(text: str) -> list[int]:
    return [BOS, *plain(text), EOS]


@pytest.mark.parametrize(
    ("given", "unread", "told"),
    [
        ({"temperature": 0.6, "top_k": 20, "do_sample": True, "eos_token_id": [1, 2], "suppress_tokens": [3]}, [], []),
        ({"bos_token_id": 1, "max_new_tokens": 512, "transformers_version": "5", "_from_model_config": True}, [], []),
        ({"num_beams": 1, "typical_p": 1.0, "no_repeat_ngram_size": 0, "num_assistant_tokens": 20}, [], []),
        ({"begin_suppress_tokens": [220]}, ["begin_suppress_tokens"], ["begin_suppress_tokens: [220]"]),
        ({"num_beams": 4, "presence_penalty": 1.5}, ["num_beams", "presence_penalty"], ["num_beams: 4", "1.5"]),
        ({"forced_bos_token_id": None, "guidance_scale": 2}, ["guidance_scale"], ["guidance_scale: 2"]),
        ({"chat_format": "chatml"}, ["chat_format"], []),
        ({}, [], []),
    ],
    ids=["read", "harmless", "does nothing", "a list", "two", "switched off", "nobody knows it", "empty"],
)
def test_what_answers_are_not_made_by_is_listed(
    tmp_path: Path, given: dict[str, Any], unread: list[str], told: list[str]
) -> None:
    (tmp_path / GENERATION).write_text(json.dumps(given))
    assert sorted(unread_generation(tmp_path)) == unread
    notes = generation_notes(tmp_path)
    assert len(notes) == bool(told)
    assert all(part in notes[0] for part in told)


def test_every_key_that_transformers_has_is_judged() -> None:
    known = GENERATION_READ | GENERATION_HARMLESS | set(GENERATION_CHANGES)
    keys = [name for name in GenerationConfig().to_dict() if not name.startswith("_")]
    assert [n for n in keys if n not in known and not any(part in n for part in GENERATION_HARMLESS_PARTS)] == []


@pytest.mark.parametrize(
    ("given", "encode", "unread"),
    [
        ({"add_bos_token": True, "add_eos_token": False}, plain, ["add_bos_token"]),
        ({"add_bos_token": True, "add_eos_token": True}, plain, ["add_bos_token", "add_eos_token"]),
        ({"add_bos_token": True, "add_eos_token": True}, between, []),
        ({"bos_token": "<s>", "image_token": "<i>", "model_max_length": 9, "tokenizer_class": "X"}, plain, []),
        ({"backwards": True}, plain, ["backwards"]),
        ({"backwards": False}, plain, []),
        ({"gguf_tokenizer_pre": "default", "_note": 1}, plain, []),
    ],
    ids=["begins", "begins and ends", "added by the file", "read", "nobody knows it", "switched off", "private notes"],
)
def test_what_texts_are_not_split_by_is_listed(
    tmp_path: Path, given: dict[str, Any], encode: Callable[[str], list[int]], unread: list[str]
) -> None:
    (tmp_path / TOKENIZER).write_text(json.dumps(given))
    assert sorted(unread_tokenizer(tmp_path, encode)) == unread
    notes = tokenizer_notes(tmp_path, encode)
    assert len(notes) == any(name.startswith("add_") for name in unread)
    assert all(name in notes[0] for name in unread if name.startswith("add_"))


def test_models_without_such_files_have_nothing_unread(tmp_path: Path) -> None:
    assert unread_generation(tmp_path) == unread_tokenizer(tmp_path, plain) == {}
    assert generation_notes(tmp_path) == tokenizer_notes(tmp_path, plain) == []


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / GENERATION).write_text("{")
    with pytest.raises(NotAModel, match=GENERATION):
        unread_generation(tmp_path)
    assert generation_notes(tmp_path) == []


@pytest.mark.model
def test_a_folders_files_are_looked_at_together(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), folder)
    assert unread_of(model_in_folder(folder), tmp_path) == []
    settings = json.loads((folder / TOKENIZER).read_text())
    (folder / TOKENIZER).write_text(json.dumps({**settings, "add_bos_token": True}))
    (folder / GENERATION).write_text(json.dumps({"num_beams": 4}))
    assert unread_of(model_in_folder(folder), tmp_path) == [
        UnreadKey(GENERATION, "num_beams", 4, 1),
        UnreadKey(TOKENIZER, "add_bos_token", True, None),
    ]
