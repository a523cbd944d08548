"""What a GGUF file says beside its weights: tokens, ends, positions, and what is told where nothing reads it."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf2mlx.gguf2mlx as core
import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from gguf2mlx import vlm
from mlx_lm.models import gemma
from support.tiny.gguf_files import byte_tokens, write_gguf
from tokenizers import Tokenizer

from mlx_server.schemas.internal.generation import Sampling
from mlx_server.workers.engine.from_gguf import library, vocabulary
from mlx_server.workers.engine.from_gguf.convert import convert
from mlx_server.workers.engine.from_gguf.endings import endings
from mlx_server.workers.engine.from_gguf.positions import scaling
from mlx_server.workers.engine.from_gguf.source import BESIDE, SourceError, WholeReader, check_room
from mlx_server.workers.engine.from_gguf.splitting import SPLITTINGS
from mlx_server.workers.engine.from_gguf.unread import unread
from mlx_server.workers.engine.loading.loading import read_model, read_tokenizer
from mlx_server.workers.engine.loading.rope import turning_of
from mlx_server.workers.folders.conversion_notes import UNREAD, read_notes
from mlx_server.workers.folders.gguf import convert_gguf
from mlx_server.workers.handlers.writing import read_sampling_defaults

TABLE = json.loads((Path(__file__).parent / "llama_cpp_tokens.json").read_text(encoding="utf-8"))
"""What llama.cpp makes of texts; support/llama_cpp_tokens.py says how it was asked."""

IDS = {name: ids for names, ids in TABLE["ids"].items() for name in names.split()}
"""With a vocabulary that merges all that stands beside each other in these texts, by how they are split."""

END, TURN_END = "<|endoftext|>", "<|im_end|>"


def _discard(_: str) -> None:
    pass


@cache
def _tokens(folder: Path) -> list[str]:
    vocab: dict[str, int] = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    return sorted(vocab, key=lambda token: vocab[token])


@pytest.fixture(scope="module")
def merging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted model with the table's vocabulary."""
    path = tmp_path_factory.mktemp("merging") / "m.gguf"
    write_gguf(path, tokens=byte_tokens(TABLE["merges"]), merges=TABLE["merges"])
    return convert_gguf(path, path.parent, _discard)


def _converted(file: Path) -> Path:
    """A file's model, converted in this process."""
    folder = file.parent / "model"
    assert convert([file], folder, "float32")
    return folder


def _put_right(folder: Path, scratch: Path, **metadata: Any) -> list[str]:
    """A model's tokenizer, as if its file had said this; returns the notes."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, scratch)
    said = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": _tokens(folder)}
    return vocabulary.put_right(scratch, said | {f"tokenizer.ggml.{key}": value for key, value in metadata.items()}, [])


def _ids(folder: Path) -> dict[str, list[int]]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return {text: tokenizer.encode(text, add_special_tokens=False).ids for text in TABLE["texts"]}


@pytest.mark.parametrize("pre", sorted(IDS))
def test_texts_become_the_tokens_of_llama_cpp(merging: Path, tmp_path: Path, pre: str) -> None:
    assert _put_right(merging, tmp_path, pre=pre) == []
    assert _ids(tmp_path) == dict(zip(TABLE["texts"], IDS[pre], strict=True))


def test_every_splitting_is_held_against_llama_cpp() -> None:
    assert sorted(IDS) == sorted(SPLITTINGS)
    assert len(TABLE["ids"]) == len({(one.patterns, one.whole_words) for one in SPLITTINGS.values()})


@pytest.mark.model
def test_demo_model_splits_texts_as_its_file_asks(smollm2: Path) -> None:
    assert list(_ids(smollm2).values()) == TABLE["demo"]["ids"]


@pytest.mark.model
def test_demo_model_ends_its_answers_where_llama_cpp_does(smollm2: Path) -> None:
    config = json.loads((smollm2 / "config.json").read_text())
    assert config["eos_token_id"] == TABLE["demo"]["endings"]
    assert {_tokens(smollm2)[number] for number in TABLE["demo"]["endings"]} >= {END, TURN_END}


@pytest.mark.parametrize(
    ("pre", "says", "begins"), [("tekken", None, True), ("tekken", False, False), ("glm4", None, False)]
)
def test_texts_begin_with_bos_where_the_vocabulary_does(
    merging: Path, tmp_path: Path, pre: str, says: bool | None, begins: bool
) -> None:
    _put_right(merging, tmp_path, pre=pre, **({} if says is None else {"add_bos_token": says}))
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    bos = json.loads((tmp_path / "tokenizer_config.json").read_text())["bos_token"]
    assert (tokenizer.encode("Hello").tokens[0] == bos) is begins
    assert (tokenizer.encode("Hello", "there").tokens.count(bos)) == (2 if begins else 0)


@pytest.mark.parametrize(("said", "note"), [({"pre": "kimi-k2"}, "'kimi-k2'"), ({}, "does not say how")])
def test_a_splitting_that_is_not_known_is_told(merging: Path, tmp_path: Path, said: dict[str, str], note: str) -> None:
    (told,) = _put_right(merging, tmp_path, **said)
    assert note in told
    assert "answers may be worse" in told


def test_a_models_own_tokenizer_in_its_file_stays_as_it_is(merging: Path, tmp_path: Path) -> None:
    own = (merging / "tokenizer.json").read_text(encoding="utf-8")
    (tmp_path / "tokenizer.json").write_text(own)
    shutil.copy(merging / "tokenizer_config.json", tmp_path)
    said = {"model": "gpt2", "tokens": _tokens(merging), "pre": "tekken"}
    metadata = {f"tokenizer.ggml.{key}": value for key, value in said.items()} | {"tokenizer.huggingface.json": own}
    assert vocabulary.put_right(tmp_path, metadata, []) == []
    assert json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8")) == json.loads(own)


PHI = ["<unk>", "<s>", "</s>", "<0x0A>", "\u2581", "H", "i", "<|user|>", "<|end|>", "<|assistant|>", "<|endoftext|>"]


@pytest.mark.parametrize(
    ("name", "strips"), [("Phi3", True), ("My Phi-3 Tune", True), ("Phi 3.5 mini instruct", False)]
)
def test_special_tokens_take_the_lines_behind_them_along_as_in_llama_cpp(
    tmp_path: Path, name: str, strips: bool
) -> None:
    types = [2, 3, 3, 6, 1, 1, 1, 3, 3, 3, 3]
    made = core._build_tokenizer_json(PHI, types, [], [0.0] * len(PHI), "llama", 1, 10, 10, arch="phi3")
    assert not any(token["rstrip"] for token in made["added_tokens"])
    vocabulary.write(tmp_path / "tokenizer.json", made)
    vocabulary.write(tmp_path / "tokenizer_config.json", {})
    metadata = {"general.name": name, "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": PHI}
    assert vocabulary.put_right(tmp_path, metadata, [8, 10]) == []
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    turn, end = (
        tokenizer.encode(text, add_special_tokens=False).ids
        for text in ("<|user|>\nHi<|end|>\n<|assistant|>\n", "<|endoftext|>\n")
    )
    assert (3 not in turn) is strips
    assert [number for number in turn if number > 6] == [7, 8, 9]
    assert end[-1] == 3


@pytest.mark.parametrize(
    ("metadata", "tokens", "ends"),
    [
        ({"eos": 0}, ["a", "b"], [0]),
        ({"eos": 0, "eot": 2, "eom": 3}, ["a", "b", "c", "d"], [0, 2, 3]),
        ({"eos": 0, "eot": 9}, ["a", "b"], [0]),
        ({}, ["a", "<|im_end|>", "<|endoftext|>"], [1, 2]),
        ({"eos": 0}, ["a", "<end_of_turn>", "</s>"], [0, 1, 2]),
        ({"eos": 0, "fim_pad": 1}, ["a", "b", "<|fim_pad|>", "<|file_sep|>"], [0, 1, 3]),
        ({"eos": 1}, ["<|end|>", "<|return|>", "<|call|>"], [1, 2]),
        ({"eos": 1}, ["<|end|>", "<|return|>"], [0, 1]),
        ({"eos": 0}, ["<turn|>", "</s>", "<|tool_response>"], [0, 2]),
    ],
)
def test_endings_are_those_of_llama_cpp(metadata: dict[str, int], tokens: list[str], ends: list[int]) -> None:
    assert endings({f"tokenizer.ggml.{role}_token_id": number for role, number in metadata.items()}, tokens) == ends


YARN = {"rope_type": "yarn", "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}


@pytest.mark.parametrize(
    ("metadata", "changes"),
    [
        ({}, {}),
        ({"scaling.type": "none", "scaling.factor": 4.0}, {}),
        ({"scaling.type": "linear", "scaling.factor": 1.0}, {}),
        ({"scaling.type": "linear", "scaling.factor": 0.0}, {}),
        ({"scaling.factor": 4.0}, {"rope_scaling": {"rope_type": "linear", "type": "linear", "factor": 4.0}}),
        ({"scale_linear": 2.0}, {"rope_scaling": {"rope_type": "linear", "type": "linear", "factor": 2.0}}),
        (
            {"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.original_context_length": 32},
            {"rope_scaling": YARN},
        ),
        (
            {"scaling.type": "yarn", "scaling.factor": 4.0},
            {"rope_scaling": YARN | {"original_max_position_embeddings": 128}},
        ),
        (
            {
                "scaling.type": "yarn",
                "scaling.factor": 4.0,
                "scaling.original_context_length": 32,
                "scaling.yarn_beta_fast": 16.0,
                "scaling.yarn_beta_slow": 2.0,
                "scaling.attn_factor": 2.0,
            },
            {
                "rope_scaling": YARN
                | {"beta_fast": 16.0, "beta_slow": 2.0, "attention_factor": pytest.approx(2 * (1 + 0.1 * np.log(4)))}
            },
        ),
    ],
)
def test_scaling_goes_into_the_config(metadata: dict[str, Any], changes: dict[str, Any]) -> None:
    said = {f"qwen3.rope.{key}": value for key, value in metadata.items()}
    assert scaling(said, "qwen3", {"max_position_embeddings": 128}) == (changes, [])


@pytest.mark.parametrize(
    ("metadata", "changes", "note"),
    [
        ({"type": "new"}, {}, "'new' is not known here: long prompts"),
        ({"type": "new", "original_context_length": 32}, {"max_position_embeddings": 32}, "after 32 tokens"),
        ({"type": "linear", "attn_factor": 2.0}, {}, "attn_factor of 2 is not computed"),
        ({"type": "yarn", "factor": 1.0, "yarn_ext_factor": 0.5}, {}, "yarn_ext_factor of 0.5"),
    ],
)
def test_scaling_that_is_not_computed_is_told(metadata: dict[str, Any], changes: dict[str, Any], note: str) -> None:
    said = {f"qwen3.rope.scaling.{key}": value for key, value in metadata.items()}
    found, notes = scaling(said, "qwen3", {"max_position_embeddings": 128})
    assert found == changes
    assert len(notes) == 1
    assert note in notes[0]


def test_scaling_beside_that_of_tensors_is_told() -> None:
    config = {"max_position_embeddings": 128, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}
    said = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}
    note = "llama.rope.scaling.type 'linear' is not computed for this kind of model"
    assert scaling(said, "llama", config) == ({}, [f"{note}: long prompts may be answered with nonsense"])
    assert scaling({}, "llama", config) == ({}, [])


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_a_converted_model_turns_as_its_file_asks(tmp_path: Path, architecture: str, kind: str) -> None:
    scale = {"type": kind, "factor": 4.0, "original_context_length": 32}
    metadata: dict[str, Any] = {f"{architecture}.rope.scaling.{key}": value for key, value in scale.items()}
    metadata[f"{architecture}.rope.freq_base"] = 1_000_000.0
    if architecture == "qwen3":
        metadata["qwen3.attention.key_length"] = 8
    model, _, _ = read_model(_converted(write_gguf(tmp_path / "m.gguf", architecture, metadata)), "native")
    turned = turning_of(model.layers[0].self_attn.rope)
    plain = 1_000_000.0 ** (np.arange(0, 8, 2) / 8)
    # 32 positions are 5.1, 0.16, 0.005 ... turns: YaRN's ramp goes from dimension 0 to 1, all after it are stretched.
    assert np.allclose(turned.periods, plain * (4 if kind == "linear" else [1, 4, 4, 4]), rtol=1e-4)
    assert turned.scale == pytest.approx(1 if kind == "linear" else 1 + 0.1 * np.log(4))


def test_factors_of_llama_3_turn_a_converted_model(tmp_path: Path) -> None:
    original, factor, plain = 8192, 32.0, 500_000.0 ** (np.arange(0, 64, 2) / 64)
    smooth = np.clip((original / (2 * np.pi * plain) - 1) / 3, 0, 1)
    factors = (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)
    wide = {f"blk.0.attn_{part}.weight": np.ones((256, 32), np.float32) for part in "qkv"}
    wide |= {"blk.0.attn_output.weight": np.ones((32, 256), np.float32), "rope_freqs.weight": factors}
    metadata = {
        "llama.attention.key_length": 64,
        "llama.rope.dimension_count": 64,
        "llama.rope.freq_base": 500_000.0,
        "llama.context_length": 131_072,
    }
    path = write_gguf(tmp_path / "m.gguf", metadata=metadata, more=wide)
    model, config, _ = read_model(_converted(path), "native")
    assert config["rope_scaling"]["original_max_position_embeddings"] == original
    assert np.allclose(turning_of(model.layers[0].self_attn.rope).periods, plain * factors, rtol=1e-4)


def test_a_converted_gemma_3_writes(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "gemma3", {"gemma3.attention.key_length": 8}, layers=6)
    model, _, _ = read_model(_converted(path), "float32")
    assert mx.isfinite(model(mx.array([[1, 2, 3]]))).all()


def _write_phi(path: Path, **metadata: Any) -> Path:
    """A Phi, whose embedding is its output layer."""
    fused = {"blk.0.ffn_up.weight": np.ones((2 * 64, 32), np.float32)}
    return write_gguf(path, "phi3", metadata, drop=["blk.0.ffn_gate.weight"], more=fused)


@pytest.mark.parametrize("name", ["Phi 4 mini", "Phi 3"])
def test_a_converted_phi_writes_without_an_output_layer(tmp_path: Path, name: str) -> None:
    path = _write_phi(tmp_path / "m.gguf", **{"general.name": name})
    assert convert([path], tmp_path / "model", "float32")
    model, _, _ = read_model(tmp_path / "model", "float32")
    assert mx.isfinite(model(mx.array([[1, 2, 3]]))).all()


def test_a_llama_that_is_named_phi_4_is_converted_as_what_it_is(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", metadata={"general.name": "Phi 4"})
    assert convert([path], tmp_path / "model", "float32")
    _, config, _ = read_model(tmp_path / "model", "native")
    assert config["model_type"] == "llama"


def test_what_a_file_says_and_nobody_reads_is_told_at_each_load(tmp_path: Path) -> None:
    metadata = {"tokenizer.ggml.pre": "nonesuch", "llama.attention.clamp_kqv": 8.0, "llama.rope.scaling.type": "new"}
    folder = convert_gguf(write_gguf(tmp_path / "m.gguf", metadata=metadata), tmp_path / "cache", _discard)
    for _ in range(2):
        _, _, notes = read_model(folder, "native")
        told = [note for note in notes if "GGUF" in note or "tokenizer.ggml" in note or "rope.scaling" in note]
        assert len(told) == 3
        assert any("'nonesuch'" in note for note in told)
        assert any(note.endswith(": llama.attention.clamp_kqv") for note in told)
        assert any("llama.rope.scaling.type 'new'" in note for note in told)


def test_a_model_is_sampled_as_its_file_recommends(tmp_path: Path) -> None:
    said = {"temp": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.0, "penalty_repeat": 1.05, "mirostat": 2}
    metadata = {f"general.sampling.{key}": value for key, value in said.items()}
    folder = tmp_path / "model"
    assert convert([write_gguf(tmp_path / "m.gguf", metadata=metadata)], folder, "float32")
    assert read_sampling_defaults(folder, 256) == Sampling(0.6, 0.95, 20, 0.0, None, 1.05)
    assert read_notes(folder) == [f"{UNREAD}general.sampling.mirostat"]


def test_a_model_that_the_disk_has_no_room_for_is_refused_before_it_is_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "m.gguf", more={"wide": np.zeros((1024, 1024), np.float16)})
    free = BESIDE + (3 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(SourceError, match=r"not enough disk space: it takes 0\.1 GB in float32, 0\.1 GB are free"):
        convert([path], tmp_path / "model", "float32")
    assert list((tmp_path / "model").iterdir()) == []
    check_room(WholeReader([path]), "float16", free)


def test_a_file_that_says_nothing_unusual_is_loaded_without_notes(tmp_path: Path) -> None:
    metadata = {
        "llama.attention.key_length": 8,
        "llama.attention.value_length": 8,
        "llama.rope.dimension_count": 8,
        "llama.expert_count": 0,
        "general.file_type": 0,
        "tokenizer.chat_template.tool_use": "{{ messages }}",
        "tokenizer.ggml.eot_token_id": 2,
    }
    folder = _converted(write_gguf(tmp_path / "m.gguf", metadata=metadata))
    assert json.loads((folder / "conversion_notes.json").read_text()) == []


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("llama.rope.dimension_count", 8, False),
        ("llama.rope.dimension_count", 4, True),
        ("llama.attention.causal", False, True),
        ("llama.expert_count", 0, False),
        ("llama.context_length", 128, False),
        ("tokenizer.ggml.suppress_tokens", [1], True),
        ("tokenizer.ggml.suppress_tokens", [], False),
        ("general.name", "x", False),
        ("general.sampling.mirostat", 2, True),
        ("general.sampling.xtc_probability", 0.0, False),
        ("qwen2.rope.dimension_count", 4, False),
    ],
)
def test_unread_keys_are_those_that_may_change_answers(key: str, value: Any, told: bool) -> None:
    config = {"hidden_size": 32, "num_attention_heads": 4}
    assert unread({key: value}, {"llama.context_length"}, "llama", config) == ([key] if told else [])


def test_an_ending_that_is_an_ordinary_token_becomes_special(tmp_path: Path) -> None:
    path = write_gguf(
        tmp_path / "m.gguf", metadata={"tokenizer.ggml.eot_token_id": 7, "tokenizer.ggml.eom_token_id": 9}
    )
    folder = _converted(path)
    _, config, _ = read_model(folder, "native")
    tokenizer, _ = read_tokenizer(folder, config)
    assert set(tokenizer.eos_token_ids) == {1, 7, 9}
    assert tokenizer.decode([2, 7, 9, 2], skip_special_tokens=True) == tokenizer.decode([2, 2])


# What follows fails when gguf2mlx has mended what is worked around here.


def test_library_still_takes_gemma_3_for_a_vision_model(tmp_path: Path) -> None:
    reader = WholeReader([write_gguf(tmp_path / "m.gguf", "gemma3")])
    assert vlm.is_vlm(reader)
    with library.mended(reader):
        assert not vlm.is_vlm(reader)
    assert vlm.is_vlm(reader)


def test_library_still_goes_by_a_name_against_the_architecture(tmp_path: Path) -> None:
    reader = WholeReader([write_gguf(tmp_path / "m.gguf", metadata={"general.name": "Phi 4"})])
    assert core.detect_architecture(reader) == "phi4"
    with library.mended(reader):
        assert core.detect_architecture(reader) == "llama"
    assert core.detect_architecture(reader) == "phi4"


def test_library_still_says_that_no_phi_is_tied(tmp_path: Path) -> None:
    reader = WholeReader([_write_phi(tmp_path / "m.gguf")])
    assert core.build_config(reader, "phi3")["tie_word_embeddings"] is False


def test_library_still_leaves_one_in_the_norms_of_gemma_3s_heads() -> None:
    name, ones = "blk.0.attn_q_norm.weight", np.ones(4, np.float32)
    assert core._restore_architecture_tensor(name, ones, "gemma3").tolist() == [1, 1, 1, 1]
    assert library.restored(core._restore_architecture_tensor)(name, ones, "gemma3").tolist() == [0, 0, 0, 0]


def test_library_still_reads_one_ending_and_no_scaling(tmp_path: Path) -> None:
    metadata = {
        "tokenizer.ggml.eot_token_id": 2,
        "llama.rope.scaling.type": "yarn",
        "llama.rope.scaling.factor": 4.0,
        "llama.attention.key_length": 16,
    }
    config = core.build_config(WholeReader([write_gguf(tmp_path / "m.gguf", metadata=metadata)]), "llama")
    assert config["eos_token_id"] == 1
    assert "rope_scaling" not in config
    assert "head_dim" not in config


@pytest.mark.parametrize("pre", ["smollm", "tekken", "gpt-4o", "deepseek-v3", "glm4"])
def test_library_still_does_not_know_splittings(pre: str) -> None:
    with pytest.warns(UserWarning, match=f"Unsupported tokenizer.ggml.pre='{pre}'"):
        core._build_tokenizer_json(["a"], [1], [], [], "gpt2", 0, 0, 0, tokenizer_pre=pre)


def test_mlx_lm_still_computes_the_first_gemmas_activation_exactly() -> None:
    mlp = gemma.MLP(2, 2)
    mlp.gate_proj.weight = mlp.up_proj.weight = mlp.down_proj.weight = mx.eye(2)
    x = mx.array([1.5, -0.5])
    assert mx.allclose(mlp(x), nn.gelu(x) * x, atol=1e-6)
    assert not mx.allclose(mlp(x), nn.gelu_approx(x) * x, atol=1e-6)
