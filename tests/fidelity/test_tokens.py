"""Texts become the tokens that tokenizer.json makes of them, whatever class a folder names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fidelity.texts import TEXTS
from support.running.servers import Server, serving
from support.tokenizer_files import ALL_FILES
from tokenizers import Tokenizer

from mlx_server.schemas.internal.generation import TextPrompt
from mlx_server.workers.engine.embed.inputs.input_texts import InputTexts, read_input_tokenizer
from mlx_server.workers.engine.loading.loading import read_tokenizer

pytestmark = pytest.mark.model

CLASSES = ("PreTrainedTokenizerFast", "GPT2Tokenizer", "LlamaTokenizer", "GemmaTokenizer", "CohereTokenizer")
"""A class that takes all from the file, and some that transformers would have their own way."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each kind of tokenizer.json."""
    made = tmp_path_factory.mktemp("files")
    for name, write in ALL_FILES.items():
        (made / name).mkdir()
        write(made / name)
    return made


def named(folder: Path, class_name: str) -> Path:
    """The folder with such a class's name in it, and no model."""
    (folder / "config.json").write_text(json.dumps({"model_type": "lfm2"}))
    given = {"tokenizer_class": class_name, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(given))
    return folder


def unlike(tokenizer: Any, folder: Path) -> list[str]:
    """The texts of which a tokenizer makes other tokens than the file."""
    file = Tokenizer.from_file(str(folder / "tokenizer.json"))
    wanted = [file.encode(text, add_special_tokens=False).ids for text in TEXTS]
    return [
        text
        for text, ids in zip(TEXTS, wanted, strict=True)
        if list(tokenizer.encode(text, add_special_tokens=False)) != ids
    ]


def test_there_are_enough_texts() -> None:
    assert len(TEXTS) >= 200


@pytest.mark.parametrize("class_name", CLASSES)
@pytest.mark.parametrize("file", ALL_FILES)
def test_tokens_are_the_files_or_the_difference_is_told(files: Path, file: str, class_name: str) -> None:
    folder = named(files / file, class_name)
    wrapper, notes = read_tokenizer(folder, {})
    assert unlike(wrapper._tokenizer, folder) == []
    assert notes == []


@pytest.mark.parametrize("file", ALL_FILES)
def test_inputs_of_embeddings_have_the_files_tokens(files: Path, file: str) -> None:
    folder = named(files / file, "PreTrainedTokenizerFast")
    tokenizer, notes = read_input_tokenizer(folder)
    texts = InputTexts(tokenizer, len(tokenizer), None)
    whole = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in TEXTS:
        assert texts.prompt(TextPrompt(text)) == whole.encode(text).ids, text
    assert notes == []


@pytest.fixture(scope="module")
def server(tiny_model: Callable[[str], Path]) -> Iterator[Server]:
    with serving("--model-path", tiny_model("llama")) as server:
        yield server


@pytest.mark.parametrize("special", [False, True])
def test_clients_get_the_files_tokens(server: Server, tiny_model: Callable[[str], Path], special: bool) -> None:
    file = Tokenizer.from_file(str(tiny_model("llama") / "tokenizer.json"))
    for text in TEXTS:
        answer = server.post("/tokenize", {"prompt": text, "add_special_tokens": special}).json()
        assert answer["tokens"] == file.encode(text, add_special_tokens=special).ids, text
