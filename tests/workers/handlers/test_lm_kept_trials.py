"""A model that was tried on this machine is loaded without the trials, and answers the same."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_server.schemas.internal.generation import GenerationRequest, Sampling, TextPrompt
from mlx_server.schemas.internal.messages import Load, ModelFacts
from mlx_server.workers.engine.decode.joined_trial import TRIAL as TIMED
from mlx_server.workers.engine.decode.probe import Batching
from mlx_server.workers.engine.runtime.kept_trials import FOLDER
from mlx_server.workers.handlers.lm import LanguageHandler

pytestmark = pytest.mark.model

TRIALS = {"batching of 3 rows", "embeddings of 64 tokens", "guesses", "vocabulary"}
"""Of a model that passes all."""


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model("llama"), tmp_path / "model"))


def _served(folder: Path, cache_dir: Path) -> tuple[list[int], ModelFacts]:
    """The tokens of an answer, and what the load says."""
    handler = LanguageHandler()
    facts = handler.load(Load(str(folder), "lm", 4, 512, str(cache_dir), prefix_cache_bytes=1 << 20), lambda _: None)
    [sequence] = handler.prepare(
        1, GenerationRequest((TextPrompt("the quick brown fox"),), 8, sampling=Sampling(temperature=0.0))
    )
    handler.engine.add(sequence)
    while handler.engine.busy:
        handler.engine.step()
    handler.close()
    return sequence.emitted, facts


def _files(cache_dir: Path) -> list[Path]:
    return sorted((cache_dir / FOLDER).iterdir())


def _kept(file: Path) -> dict[str, Any]:
    """What is in a file, without what is kept only once the clock has shown it clearly."""
    return {trial: shown for trial, shown in json.loads(file.read_text()).items() if trial != TIMED}


def test_second_load_uses_what_is_kept_and_answers_the_same(folder: Path, tmp_path: Path) -> None:
    first = _served(folder, tmp_path / "cache")
    [file] = _files(tmp_path / "cache")
    kept = _kept(file)
    assert set(kept) == TRIALS
    # What is kept is believed: with other dimensions in the file, the facts have them.
    file.write_text(json.dumps({**kept, "embeddings of 64 tokens": [64, 7]}))
    tokens, facts = _served(folder, tmp_path / "cache")
    assert facts.dimensions == 7
    file.write_text(json.dumps(kept))
    assert _served(folder, tmp_path / "cache") == first
    assert tokens == first[0]
    assert _kept(file) == kept


def _touch_weights(folder: Path) -> None:
    [weights] = folder.glob("*.safetensors")
    os.utime(weights, ns=(1, 1))


def _touch_tokenizer(folder: Path) -> None:
    os.utime(folder / "tokenizer.json", ns=(1, 1))


def _change_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 300}))


@pytest.mark.parametrize("change", [_touch_weights, _touch_tokenizer, _change_config])
def test_a_change_of_the_model_has_it_tried_again(folder: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
    _served(folder, tmp_path / "cache")
    change(folder)
    _served(folder, tmp_path / "cache")
    assert [set(_kept(file)) for file in _files(tmp_path / "cache")] == [TRIALS, TRIALS]


def test_a_damaged_file_has_the_model_tried_again(folder: Path, tmp_path: Path) -> None:
    first = _served(folder, tmp_path / "cache")
    [file] = _files(tmp_path / "cache")
    kept = _kept(file)
    file.write_bytes(file.read_bytes()[:40])
    assert _served(folder, tmp_path / "cache") == first
    assert _kept(file) == kept


@pytest.mark.parametrize("architecture", ["mamba", "gemma2"])
def test_a_model_that_can_not_be_batched_as_a_whole_is_tried_each_time(
    tiny_model: Callable[[str], Path], tmp_path: Path, architecture: str
) -> None:
    first = _served(tiny_model(architecture), tmp_path)
    [file] = _files(tmp_path)
    assert not any(trial.startswith("batching") for trial in json.loads(file.read_text()))
    assert Batching.JOINT.value not in file.read_text()
    assert _served(tiny_model(architecture), tmp_path) == first
