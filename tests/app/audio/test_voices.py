"""`/v1/audio/voices` of models that nobody has loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.running.servers import Server, serving

CONFIGS = {
    "kokoro-small": {"plbert": {"hidden_size": 8}, "istftnet": {}},
    "qwen3-tts": {"model_type": "qwen3_tts", "talker_config": {"spk_id": {"vivian": 1, "ryan": 2}}},
    "bark": {"model_type": "bark"},
    "whisper": {"model_type": "whisper"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models: Path = tmp_path_factory.mktemp("models")
    for name, config in CONFIGS.items():
        (models / name / "voices").mkdir(parents=True)
        (models / name / "config.json").write_text(json.dumps(config))
        save_file({"weight": np.zeros(4, np.float32)}, models / name / "model.safetensors")
    (models / "kokoro-small" / "voices" / "af_one.safetensors").touch()
    with serving("--models-dir", models) as server:
        yield server


def test_voices_are_those_of_all_models_that_speak_and_nothing_is_loaded_for_them(server: Server) -> None:
    listed = server.get("/v1/audio/voices").json()
    voices = [(one["model"], one["id"]) for one in listed["data"]]
    assert voices == [("bark", "default"), ("kokoro-small", "af_one"), ("qwen3-tts", "vivian"), ("qwen3-tts", "ryan")]
    assert listed["voices"] == ["default", "af_one", "vivian", "ryan"]
    assert server.worker_pids() == []


@pytest.mark.parametrize(("name", "voices"), [("qwen3-tts", ["vivian", "ryan"]), ("whisper", [])])
def test_voices_of_one_model(server: Server, name: str, voices: list[str]) -> None:
    assert server.get(f"/v1/audio/voices?model={name}").json()["voices"] == voices
    assert server.worker_pids() == []


def test_voices_of_a_model_that_nobody_knows_are_not_found(server: Server) -> None:
    answer = server.get("/v1/audio/voices?model=batman")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
