"""Families that speak and are no Kokoro, with random weights: what they make is noise, by all the steps of speech."""

from __future__ import annotations

import io
import shutil
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.computing import results_of
from support.tiny.speaking import CONFIGS, make_speaking

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import Load, Sound
from mlx_server.schemas.internal.sound import SpeechRequest
from mlx_server.workers.engine.phonemes.kitten import Phonemizer
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.folders.model_files import read_json
from mlx_server.workers.folders.voices import voices_of
from mlx_server.workers.handlers import make_handler
from mlx_server.workers.handlers.audio import AudioHandler

pytestmark = pytest.mark.model

TEXT = "Hello there. How are you?"
VOICES = {"pocket_tts": ("anna", "bert"), "kitten_tts": ("Leo", "voice-1-m", "voice-2-m"), "voxcpm": ()}
RATES = {"pocket_tts": 24_000, "kitten_tts": 24_000, "voxcpm": 16_000}
TAKES_SPEED = {"kitten_tts"}

Loaded = tuple[AudioHandler, str]
"""A model, and its family."""


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    folder = make_speaking(tmp_path_factory.mktemp("speaking") / request.param, request.param)
    assert voices_of(folder, read_json(folder, "config.json")) == VOICES[request.param]
    handler = make_handler("audio")
    assert isinstance(handler, AudioHandler)
    facts = handler.load(Load(str(folder), "audio", 4, 512, "/nowhere"), print)
    assert (facts.transcribes, facts.speaks, facts.architecture) == (False, True, request.param)
    yield handler, request.param
    handler.close()


def said(handler: AudioHandler, **asked: Any) -> bytes:
    """All of a sound's bytes."""
    [job] = handler.prepare(1, SpeechRequest(text=TEXT, **asked))
    results, last = results_of(handler.engine, job)
    assert (last.finish, last.progress) == ("stop", (len(TEXT) - 1,) * 2)
    assert {type(one) for one in results} == {Sound}
    return b"".join(one.data for one in results)


def test_text_is_spoken_sentence_by_sentence(loaded: Loaded) -> None:
    handler, family = loaded
    with wave.open(io.BytesIO(said(handler, format="wav"))) as sound:
        assert (sound.getframerate(), sound.getnchannels()) == (RATES[family], 1)
        samples = np.frombuffer(sound.readframes(1 << 24), "<i2")
    assert samples.size > 100
    assert samples.any()


def test_same_text_sounds_the_same(loaded: Loaded) -> None:
    handler, _ = loaded
    assert said(handler, format="pcm") == said(handler, format="pcm")


def test_voices_are_those_of_the_folder(loaded: Loaded) -> None:
    handler, family = loaded
    assert len({said(handler, format="pcm", voice=voice) for voice in VOICES[family][-2:]}) == len(VOICES[family][-2:])
    assert said(handler, format="pcm", voice="nova")
    with pytest.raises(InvalidRequest) as refused:
        handler.prepare(1, SpeechRequest(text=TEXT, format="pcm", voice="batman"))
    assert refused.value.param == "voice"


@pytest.mark.parametrize(
    ("asked", "param"), [({"speed": 1.5}, "speed"), ({"instructions": "Whisper."}, "instructions")]
)
def test_what_a_family_lacks_is_refused_by_name(loaded: Loaded, asked: dict[str, Any], param: str) -> None:
    handler, family = loaded
    if param == "speed" and family in TAKES_SPEED:
        assert said(handler, format="pcm", **asked) != said(handler, format="pcm")
        return
    with pytest.raises(InvalidRequest) as refused:
        handler.prepare(1, SpeechRequest(text=TEXT, format="pcm", **asked))
    assert refused.value.param == param


def test_model_that_would_fetch_a_voice_is_not_loaded(tmp_path: Path) -> None:
    folder = make_speaking(tmp_path / "pocket_tts", "pocket_tts")
    shutil.rmtree(folder / "embeddings")
    with pytest.raises(ModelLoadError, match="has no voice"):
        make_handler("audio").load(Load(str(folder), "audio", 4, 512, "/nowhere"), print)


def test_kittens_phonemes_keep_their_punctuation() -> None:
    assert Phonemizer().phonemize(["Hello, you! (Five.)", "Six"]) == [
        "h\u0259l\u02c8o\u028a, ju\u02d0! f\u02c8a\u026av. ",
        "s\u02c8\u026aks",
    ]
