"""Kept prompts on disk: there after a restart, and never wrong."""

from __future__ import annotations

import json
import os
import random
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache
from support.engines import Player, alone, sequence

from mlx_server.workers.engine.decode.batch import BatchEngine
from mlx_server.workers.engine.kvcache.prefix_files import SUFFIX, PrefixFiles
from mlx_server.workers.engine.kvcache.prefix_store import Nearest, PrefixStore, beginning_of
from mlx_server.workers.engine.sequence import Sequence

pytestmark = pytest.mark.model

PROMPT = [4 + i % 90 for i in range(200)]
ARCHITECTURES = ("llama", "gemma3_text", "mamba", "qwen3_next")


def _engine(model: Any, folder: Path, limit_bytes: int = 1 << 30, memory: int = 64 << 20) -> BatchEngine:
    files = PrefixFiles(folder, limit_bytes, model, rest_s=0.0)
    store = PrefixStore(memory, checkpoints=True, second=files)
    return BatchEngine(model, set(), rows=4, joint_prefill=False, prefill_step_size=64, prefixes=store)


def _say(model: Any, folder: Path, *prompts: list[int], **how: Any) -> list[Sequence]:
    """What an engine that begins, answers these one after the other and ends makes of them."""
    engine, said = _engine(model, folder, **how), []
    for number, prompt in enumerate(prompts):
        one = sequence(number, prompt, 6)
        player = Player(engine)
        player.add(one)
        player.run()
        assert one.emitted == alone(model, prompt, 6).tokens
        said.append(one)
    engine.close()
    return said


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_prompt_is_known_after_a_restart(load_tiny: Callable[[str], Any], architecture: str, tmp_path: Path) -> None:
    model = load_tiny(architecture)
    [first] = _say(model, tmp_path / "kept", PROMPT)
    again, turn = _say(model, tmp_path / "kept", PROMPT, [*first.context, 7, 8, 9])
    assert again.cached_tokens == len(PROMPT) - 1
    assert turn.cached_tokens >= len(PROMPT)


def test_what_is_on_disk_only_is_told_of_too(llama: Any, tmp_path: Path) -> None:
    _say(llama, tmp_path, PROMPT)
    files = PrefixFiles(tmp_path, 1 << 30, llama)
    store = PrefixStore(64 << 20, second=files)
    other = beginning_of(sequence(9, [*PROMPT[:180], 3, 3, 3, *PROMPT]))
    assert store.nearest(other) == Nearest(180, len(PROMPT) + 5, 180)
    assert store.nearest(beginning_of(sequence(9, PROMPT[:60]))).usable == 0, "sooner read than fetched"
    store.close()


def test_files_are_for_the_servers_user_alone(llama: Any, tmp_path: Path) -> None:
    _say(llama, tmp_path / "kept", PROMPT)
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "kept").iterdir()} == {0o600}


def _cut_short(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def _changed(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"\xff" * 8)


def _foreign(path: Path) -> None:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))


def _of_another_model(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"KVCache", b"KWCache"))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [_cut_short, _changed, _foreign, _of_another_model, _empty])
def test_a_spoilt_file_is_removed_and_no_harm(llama: Any, tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    _say(llama, tmp_path, PROMPT)
    [path] = tmp_path.glob("*.safetensors")
    spoil(path)
    [again] = _say(llama, tmp_path, PROMPT)
    assert again.cached_tokens == 0
    assert not path.exists()


def test_a_file_that_is_gone_is_no_harm(llama: Any, tmp_path: Path) -> None:
    _say(llama, tmp_path, PROMPT)
    engine = _engine(llama, tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    player = Player(engine)
    player.add(one := sequence(1, PROMPT, 6))
    player.run()
    assert (one.cached_tokens, one.emitted) == (0, alone(llama, PROMPT, 6).tokens)
    engine.close()


def test_other_files_are_left_alone_and_half_written_ones_removed(llama: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for name, age_s in (("old.partial", 4000), ("new.partial", 0)):
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    _engine(llama, tmp_path).close()
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "new.partial"}, "others may be writing there"


def test_models_share_the_limit_and_nothing_else_is_touched(llama: Any, tmp_path: Path) -> None:
    one, other = tmp_path / f"{0:010x}-{1:010x}", tmp_path / f"{0:010x}-{2:010x}"
    model = tmp_path / "model" / f"{0:032x}.safetensors"
    for path in (model, tmp_path / "weights.safetensors", other / "model.safetensors"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(1 << 20))
    _say(llama, one, PROMPT)
    [kept] = one.glob("*.safetensors")
    size = kept.stat().st_size
    _say(llama, other, [token + 1 for token in PROMPT], limit_bytes=int(1.5 * size))
    assert not kept.exists()
    assert sum(path.stat().st_size == size for path in other.iterdir()) == 1
    assert model.exists()
    assert (tmp_path / "weights.safetensors").exists()
    assert (other / "model.safetensors").exists()


def test_the_least_recently_used_files_make_room(llama: Any, tmp_path: Path) -> None:
    rng = random.Random(1)
    prompts = [[rng.randrange(4, llama.args.vocab_size) for _ in range(200)] for _ in range(3)]
    _say(llama, tmp_path, prompts[0])
    [path] = tmp_path.glob("*.safetensors")
    size = path.stat().st_size
    _say(llama, tmp_path, prompts[1], limit_bytes=int(2.5 * size))
    _say(llama, tmp_path, prompts[0], limit_bytes=int(2.5 * size))
    _say(llama, tmp_path, prompts[2], limit_bytes=int(2.5 * size))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2.5 * size
    known = [one.cached_tokens > 0 for one in _say(llama, tmp_path, prompts[0], prompts[2])]
    assert known == [True, True]


def test_a_longer_beginning_takes_a_shorter_ones_place(llama: Any, tmp_path: Path) -> None:
    [first] = _say(llama, tmp_path, PROMPT)
    _say(llama, tmp_path, [*first.context, 7, 8, 9])
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_too_large_for_memory_is_taken_from_disk_by_itself(llama: Any, tmp_path: Path) -> None:
    """A store with little memory still answers rightly, and what it has read is not counted as one of its own."""
    _say(llama, tmp_path, PROMPT)
    [again] = _say(llama, tmp_path, PROMPT, memory=1000)
    assert again.cached_tokens == len(PROMPT) - 1
    files = PrefixFiles(tmp_path, 1 << 30, llama)
    store = PrefixStore(1000, second=files)
    found = store.find(sequence(1, [*PROMPT[:190], 1, 1], 6))
    assert found is not None
    assert [found[0], *(layer.offset for layer in found[1])] == [190] * (1 + len(found[1]))
    assert (store.version, store.nbytes) == (0, 0)
    store.close()


def _prompts(count: int) -> list[Sequence]:
    return [sequence(number, [5 + number] * 256, 1) for number in range(count)]


def _kept(model: Any, store: PrefixStore, sequences: list[Sequence]) -> None:
    for one in sequences:
        cache = make_prompt_cache(model)
        model(mx.array([one.prompt]), cache=cache)
        store.keep(one, cache, len(one.prompt))


def _sizes(model: Any, folder: Path) -> tuple[int, int]:
    """What one prompt takes as an entry and as a copy that waits."""
    store = PrefixStore(1 << 30, second=PrefixFiles(folder, 1 << 30, model, rest_s=60))
    _kept(model, store, _prompts(1))
    entry, copy = store._bytes, store.nbytes - store._bytes
    store.close()
    return entry, copy


def test_what_waits_to_be_written_is_counted(llama: Any, tmp_path: Path) -> None:
    store = PrefixStore(1 << 30, second=PrefixFiles(tmp_path, 1 << 30, llama, rest_s=60))
    before = mx.get_active_memory()
    _kept(llama, store, _prompts(8))
    entry, copy = _sizes(llama, tmp_path / "other")
    assert store.nbytes == 8 * (entry + copy)
    assert mx.get_active_memory() - before - store.nbytes < copy
    store.evict(7 * copy)
    assert store.nbytes == 8 * entry + copy, "copies go first"
    store.evict(copy + entry)
    assert store.nbytes == 7 * entry
    store.close()
    assert store.nbytes == 0
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(("share", "written"), [(0.5, 1), (3.5, 3)])
def test_what_waits_takes_so_much_memory_at_most_or_is_one(
    llama: Any, tmp_path: Path, share: float, written: int
) -> None:
    _, copy = _sizes(llama, tmp_path / "other")
    files = PrefixFiles(tmp_path / "kept", 1 << 30, llama, waiting_bytes=share * copy, rest_s=60)
    store = PrefixStore(1 << 30, second=files)
    _kept(llama, store, prompts := _prompts(5))
    assert files.nbytes == written * copy
    store.close()
    again = PrefixFiles(tmp_path / "kept", 1 << 30, llama)
    known = [again.nearest(beginning_of(one)).usable > 0 for one in prompts]
    again.close()
    assert known == [False] * (5 - written) + [True] * written, "the latest"


class BesideUnreadable(PrefixFiles):
    """Beside its folder is one that can't be listed."""

    def _beside(self) -> list[Path]:
        return [Path("/dev/null/nowhere"), *super()._beside()]


def test_a_folder_that_can_not_be_read_does_not_end_the_writing(llama: Any, tmp_path: Path) -> None:
    store = PrefixStore(1 << 30, second=BesideUnreadable(tmp_path, 1 << 30, llama, rest_s=0.0))
    _kept(llama, store, _prompts(2))
    store.close()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_can_not_be_removed_does_not_end_the_writing(llama: Any, tmp_path: Path) -> None:
    unremovable = tmp_path / f"{'0' * 32}{SUFFIX}"
    unremovable.mkdir()
    files = PrefixFiles(tmp_path, 0, llama, rest_s=0.0)
    _kept(llama, store := PrefixStore(1 << 30, second=files), _prompts(2))
    store.close()
    assert files.nbytes == 0
    assert list(tmp_path.iterdir()) == [unremovable]
