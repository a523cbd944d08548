"""Folders whose tokenizer_config.json names a class that is not what tokenizer.json is: the file's tokens count."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.tiny.sight import SHAPES
from support.tokenizer_files import FILES, SPECIAL
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from mlx_server.workers.engine.embed.inputs.input_texts import read_input_tokenizer
from mlx_server.workers.engine.embed.multimodal.processors import read_processor
from mlx_server.workers.engine.loading.file_tokenizers import TEXTS
from mlx_server.workers.engine.loading.loading import read_tokenizer
from mlx_server.workers.engine.vision.loading import read_vision_model

pytestmark = pytest.mark.model

CLASSES = [
    "GPT2Tokenizer",
    "CohereTokenizer",
    "GemmaTokenizer",
    "CodeLlamaTokenizer",
    "LlamaTokenizer",
    "Qwen2Tokenizer",
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each kind of tokenizer.json."""
    made = tmp_path_factory.mktemp("files")
    for name, write in FILES.items():
        (made / name).mkdir()
        write(made / name)
    return made


Named = Callable[..., Path]


@pytest.fixture
def named(files: Path, tmp_path: Path) -> Named:
    """Makes a folder with such a tokenizer.json beside the name of such a class, and no model."""

    def make(file: str, class_name: str, model_type: str = "lfm2", **settings: Any) -> Path:
        shutil.copytree(files / file, tmp_path, dirs_exist_ok=True)
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
        given = {"tokenizer_class": class_name, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(given | settings))
        return tmp_path

    return make


def unlike(folder: Path, tokenizer: Any, texts: tuple[str, ...] = TEXTS) -> list[str]:
    """The texts of which a tokenizer makes other tokens than its file, or other texts of these."""
    file = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found = []
    for text in texts:
        ids = file.encode(text, add_special_tokens=False).ids
        same = list(tokenizer.encode(text, add_special_tokens=False)) == ids
        if not same or tokenizer.backend_tokenizer.decode(ids) != file.decode(ids):
            found.append(text)
    return found


@pytest.mark.parametrize("model_type", ["lfm2", "qwen2", "llama"])
@pytest.mark.parametrize("class_name", CLASSES)
@pytest.mark.parametrize("file", FILES)
def test_tokens_are_the_files_whatever_class_is_named(
    named: Named, file: str, class_name: str, model_type: str
) -> None:
    folder = named(file, class_name, model_type)
    plain = AutoTokenizer.from_pretrained(folder)
    wrapper, notes = read_tokenizer(folder, {})
    encoder, more_notes = read_input_tokenizer(folder)
    assert notes == more_notes == []
    for tokenizer in (wrapper._tokenizer, encoder):
        assert unlike(folder, tokenizer) == []
        assert type(tokenizer) is type(plain)
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
        with_special = tokenizer.encode("the fox")
        assert with_special[: len(with_special) - len(tokenizer.encode("the fox", add_special_tokens=False))] == [1]
        assert plain.encode("the fox")[0] == 1
    detokenizer = wrapper.detokenizer
    ids = wrapper.encode("a quick  fox\n\n  jumps", add_special_tokens=False)
    for id_ in ids:
        detokenizer.add_token(id_)
    detokenizer.finalize()
    assert detokenizer.text == "a quick  fox\n\n  jumps"


@pytest.mark.parametrize(
    ("file", "class_name"), [("llama3", "GPT2Tokenizer"), ("llama2", "GemmaTokenizer"), ("gpt2", "CohereTokenizer")]
)
def test_transformers_still_splits_as_the_class_does(named: Named, file: str, class_name: str) -> None:
    """As soon as this fails, `whole_files` can go."""
    folder = named(file, class_name)
    assert unlike(folder, AutoTokenizer.from_pretrained(folder))


def test_added_tokens_that_only_the_file_has_are_known(named: Named) -> None:
    turn = {"content": "</s>", "lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
    folder = named("llama3", "Qwen2Tokenizer", added_tokens_decoder={"2": turn | {"special": True}})
    wrapper, notes = read_tokenizer(folder, {})
    assert notes == []
    assert wrapper.encode("<|turn|>", add_special_tokens=False) == [SPECIAL.index("<|turn|>")]


def test_tokens_that_still_differ_are_noted(named: Named) -> None:
    """A class of transformers that does not read the file at all."""
    folder = named("llama3", "ByT5Tokenizer", "t5")
    _, [note] = read_tokenizer(folder, {})
    assert "ByT5Tokenizer makes other tokens of 'Hello, world!' than tokenizer.json says" in note


def test_a_class_that_lowers_case_agrees_where_all_texts_are_in_lower_case(named: Named) -> None:
    folder = named("llama3", "Siglip2Tokenizer")
    _, [note] = read_input_tokenizer(folder)
    assert "Siglip2Tokenizer makes other tokens of 'Hello, world!'" in note
    tokenizer, notes = read_input_tokenizer(folder, lower_case=True)
    assert notes == []
    assert unlike(folder, tokenizer, tuple(text.lower() for text in TEXTS)) == []


def test_a_folder_without_the_file_is_loaded_as_ever(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    _, notes = read_tokenizer(tmp_path, {})
    assert notes == []


def test_a_chat_template_for_processors_is_taken_where_there_is_no_other(named: Named) -> None:
    folder = named("llama3", "Qwen2Tokenizer")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "{{ 'of the processor' }}"}))
    assert read_tokenizer(folder, {})[0].chat_template == "{{ 'of the processor' }}"
    assert read_tokenizer(folder, {}, "{{ 'given' }}")[0].chat_template == "{{ 'given' }}"
    (folder / "chat_template.jinja").write_text("{{ 'its own' }}")
    wrapper, _ = read_tokenizer(folder, {})
    assert (wrapper.has_chat_template, wrapper.chat_template) == (True, "{{ 'its own' }}")


def test_a_processors_tokens_are_the_files(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SHAPES, tmp_path / "model"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"tokenizer_class": "CohereTokenizer"}))
    assert unlike(folder, AutoTokenizer.from_pretrained(folder))
    _, processor, _, notes = read_vision_model(folder, "auto")
    assert unlike(folder, processor.tokenizer) == []
    assert not any("tokens" in note for note in notes)
    assert unlike(folder, read_processor(folder).tokenizer) == []
