import json
import os
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.tiny.gguf_files import HIDDEN, spread, tensors, write_gguf

from mlx_server.app.catalog.model_folder import read_model
from mlx_server.workers.folders.context_length import longest_input
from mlx_server.workers.folders.conversion_notes import read_notes
from mlx_server.workers.folders.gguf import GgufError, convert_gguf, converted


def _discard(_: str) -> None:
    pass


def test_convert_gguf_converts_a_file_once(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", "llama")
    reports: list[str] = []
    folder = convert_gguf(path, tmp_path / "cache", reports.append, dtype="float32")
    config = json.loads((folder / "config.json").read_text())
    assert (config["model_type"], config["num_hidden_layers"]) == ("llama", 1)
    assert list(folder.glob("*.safetensors"))
    assert (folder / "tokenizer.json").is_file()
    assert reports[0] == "tiny.gguf: Reading GGUF file (1/5)"
    assert sorted(entry.name for entry in folder.parent.iterdir()) == [".lock", folder.name]

    assert read_model(path).context_length == longest_input(folder, config, encodes=False) == 128

    reports.clear()
    assert convert_gguf(path, tmp_path / "cache", reports.append, dtype="float32") == folder
    assert reports == []


def test_convert_gguf_at_the_same_time_gives_one_folder(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", "llama")
    reports: list[str] = []
    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(convert_gguf, path, tmp_path / "cache", reports.append) for _ in range(2)]
        folders = {future.result(120) for future in both}
    assert len(folders) == 1
    assert sum("(1/5)" in report for report in reports) == 1


def test_convert_gguf_converts_again_what_has_changed_or_another_converter_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", "llama")
    before = convert_gguf(path, tmp_path / "cache", _discard)
    changed_ns = path.stat().st_mtime_ns + 1_000_000
    os.utime(path, ns=(changed_ns, changed_ns))
    after = convert_gguf(path, tmp_path / "cache", _discard)
    assert before != after
    assert not before.exists()
    assert converted(path, tmp_path / "cache") == after
    monkeypatch.setattr(metadata, "version", lambda _: "2.2.99")
    assert converted(path, tmp_path / "cache") is None


def test_convert_gguf_names_an_unsupported_architecture_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_gguf(tmp_path / "odd.gguf", "nonesuch")
    with pytest.raises(GgufError, match=r"Cannot convert .*odd\.gguf: Unsupported GGUF architecture: nonesuch"):
        convert_gguf(path, tmp_path / "cache", _discard)
    assert [entry.name for entry in (tmp_path / "cache" / "converted").iterdir()] == [".lock"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"", b"GGU", b"not a model at all", b"GGUF then rubbish"])
def test_convert_gguf_refuses_a_file_that_is_not_gguf(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wrong.gguf"
    path.write_bytes(content)
    with pytest.raises(GgufError) as caught:
        convert_gguf(path, tmp_path / "cache", _discard)
    assert str(caught.value).startswith(f"Cannot convert {path}: ")
    assert "\n" not in str(caught.value)


def test_convert_gguf_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(GgufError, match="No such file or directory"):
        convert_gguf(tmp_path / "missing.gguf", tmp_path / "cache", _discard)


def test_convert_gguf_says_when_the_cache_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    in_the_way = tmp_path / "cache"
    in_the_way.write_text("a file, not a folder")
    with pytest.raises(GgufError, match="Cannot convert"):
        convert_gguf(path, in_the_way, _discard)


def _weights(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    found: dict[str, np.ndarray[Any, Any]] = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


def _left(cache: Path) -> list[str]:
    return sorted(entry.name for entry in (cache / "converted").iterdir())


def _config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def test_convert_gguf_takes_all_parts_of_a_model_whichever_is_given(tmp_path: Path) -> None:
    whole = convert_gguf(write_gguf(tmp_path / "whole.gguf"), tmp_path / "cache", _discard, dtype="float32")
    write_gguf(tmp_path / "tiny.gguf", parts_of=4)
    parts = spread(tmp_path / "tiny.gguf", 3)
    for given in (0, 2):
        cache = tmp_path / f"cache of {given}"
        folder = convert_gguf(parts[given], cache, _discard, dtype="float32")
        expected, found = _weights(whole), _weights(folder)
        assert sorted(found) == sorted(expected), given
        assert all(np.array_equal(found[name], expected[name]) for name in expected), given
        assert _config(folder) == _config(whole), given
        assert convert_gguf(parts[0], cache, _discard, dtype="float32") == folder, given


def test_convert_gguf_names_the_missing_parts_before_it_converts(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", parts_of=4)
    parts = spread(tmp_path / "tiny.gguf", 3)
    for part in parts[1:]:
        part.unlink()
    with pytest.raises(GgufError) as caught:
        convert_gguf(parts[0], tmp_path / "cache", _discard)
    missing = f"{parts[1].name}, {parts[2].name}"
    assert str(caught.value) == f"Cannot convert {parts[0]}: these parts of the model are missing beside it: {missing}"
    assert not (tmp_path / "cache").exists()


def test_convert_gguf_refuses_a_part_under_another_name(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", parts_of=4)
    renamed = spread(tmp_path / "tiny.gguf", 3)[0].rename(tmp_path / "renamed.gguf")
    with pytest.raises(
        GgufError, match=r"it is one of the 3 parts of a model \(split.count\): name them .*-00001-of-00003"
    ):
        convert_gguf(renamed, tmp_path / "cache", _discard)
    assert _left(tmp_path / "cache") == [".lock"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"drop": ["blk.0.ffn_up.weight"]}, "can't be loaded: Missing 1 parameters"),
        ({"metadata": {"llama.block_count": 2}}, "can't be loaded: Missing 9 parameters"),
        ({"more": {"blk.0.attn_q.bias": np.zeros(HIDDEN, np.float32)}}, "can't be loaded: Received 1 parameters"),
        ({"more": {"v.patch_embd.weight": np.zeros((4, 4), np.float32)}}, "sees pictures"),
        ({"metadata": {"general.type": "mmproj"}}, "give the .gguf file of its language model"),
        ({"metadata": {"general.type": "adapter"}}, "holds no model but general.type 'adapter'"),
    ],
)
def test_convert_gguf_that_fails_leaves_nothing(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", **changes)
    with pytest.raises(GgufError) as caught:
        convert_gguf(path, tmp_path / "cache", _discard)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "cache") not in str(caught.value)
    assert _left(tmp_path / "cache") == [".lock"]


def test_convert_gguf_reads_heads_of_another_width_than_the_models_share(tmp_path: Path) -> None:
    wide = {f"blk.0.attn_{part}.weight": np.ones((2 * HIDDEN, HIDDEN), np.float32) for part in "qkv"}
    wide["blk.0.attn_output.weight"] = np.ones((HIDDEN, 2 * HIDDEN), np.float32)
    path = write_gguf(tmp_path / "wide.gguf", metadata={"llama.attention.key_length": 16}, more=wide)
    assert _config(convert_gguf(path, tmp_path / "cache", _discard))["head_dim"] == 16


def test_convert_gguf_makes_gemma_3_a_model_of_text(tmp_path: Path) -> None:
    metadata = {
        "gemma3.attention.key_length": 8,
        "gemma3.attention.sliding_window": 16,
        "gemma3.rope.scaling.type": "linear",
        "gemma3.rope.scaling.factor": 8.0,
    }
    path = write_gguf(tmp_path / "gemma.gguf", "gemma3", metadata)
    folder = convert_gguf(path, tmp_path / "cache", _discard, dtype="float32")
    config = _config(folder)
    assert (config["model_type"], config["sliding_window"]) == ("gemma3_text", 16)
    assert (config["rope_scaling"]["factor"], config["rope_local_base_freq"]) == (8, 10_000)
    weights, written = _weights(folder), tensors("gemma3", 256)
    for ours, theirs in (("self_attn.q_norm", "attn_q_norm"), ("pre_feedforward_layernorm", "ffn_norm")):
        found = weights[f"model.layers.0.{ours}.weight"]
        assert np.allclose(found, written[f"blk.0.{theirs}.weight"] - 1)


def test_convert_gguf_keeps_no_code_that_would_not_be_executed(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "gemma.gguf", "gemma", {"gemma.attention.key_length": 8})
    folder = convert_gguf(path, tmp_path / "cache", _discard)
    assert "model_file" not in _config(folder)
    assert list(folder.glob("*.py")) == []
    assert any("the first Gemma's activation" in note for note in read_notes(folder))
