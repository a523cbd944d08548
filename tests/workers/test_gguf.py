import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import numpy as np
import pytest

from mlx_server.app.catalog.model_folder import read_model
from mlx_server.workers.context_length import longest_input
from mlx_server.workers.gguf import GgufError, convert_gguf

_HIDDEN, _FEED_FORWARD = 32, 64
_LETTERS = [chr(0x100 + code) for code in range(255)]
_VOCABULARY = [*_LETTERS, _LETTERS[0] + _LETTERS[1]]
_TOKENS = len(_VOCABULARY)


def _discard(_: str) -> None:
    pass


def _write_gguf(path: Path, architecture: str) -> Path:
    """A model of one layer with random weights and a vocabulary of letters and one pair."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(_HIDDEN)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_block_count(1)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(_TOKENS)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(_VOCABULARY)
    writer.add_token_types([gguf.TokenType.NORMAL] * _TOKENS)
    writer.add_token_merges([" ".join(_VOCABULARY[-1])])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    random = np.random.default_rng(0)
    shapes = {
        "token_embd": (_TOKENS, _HIDDEN),
        "output_norm": (_HIDDEN,),
        "blk.0.attn_norm": (_HIDDEN,),
        "blk.0.ffn_norm": (_HIDDEN,),
        "blk.0.ffn_gate": (_FEED_FORWARD, _HIDDEN),
        "blk.0.ffn_up": (_FEED_FORWARD, _HIDDEN),
        "blk.0.ffn_down": (_HIDDEN, _FEED_FORWARD),
        **{f"blk.0.attn_{part}": (_HIDDEN, _HIDDEN) for part in ("q", "k", "v", "output")},
    }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_convert_gguf_converts_a_file_once(tmp_path: Path) -> None:
    path = _write_gguf(tmp_path / "tiny.gguf", "llama")
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
    path = _write_gguf(tmp_path / "tiny.gguf", "llama")
    reports: list[str] = []
    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(convert_gguf, path, tmp_path / "cache", reports.append) for _ in range(2)]
        folders = {future.result(120) for future in both}
    assert len(folders) == 1
    assert sum("(1/5)" in report for report in reports) == 1


def test_convert_gguf_converts_a_changed_file_again(tmp_path: Path) -> None:
    path = _write_gguf(tmp_path / "tiny.gguf", "llama")
    before = convert_gguf(path, tmp_path / "cache", _discard)
    changed_ns = path.stat().st_mtime_ns + 1_000_000
    os.utime(path, ns=(changed_ns, changed_ns))
    after = convert_gguf(path, tmp_path / "cache", _discard)
    assert before != after
    assert before.is_dir()
    assert after.is_dir()


def test_convert_gguf_names_an_unsupported_architecture_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = _write_gguf(tmp_path / "odd.gguf", "nonesuch")
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
