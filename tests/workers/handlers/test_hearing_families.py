"""Families that hear and are no Whisper, with random weights: each request goes through mlx-audio's own `generate`, and
what a family lacks is refused by its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.computing import results_of
from support.sounds import wav
from support.tiny.hearing import CONFIGS, make_hearing

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import Load, Recording, Segment
from mlx_server.schemas.internal.sound import TranscriptionRequest
from mlx_server.workers.engine.hear.family_languages import name_of
from mlx_server.workers.handlers import make_handler
from mlx_server.workers.handlers.audio import AudioHandler

pytestmark = pytest.mark.model

Loaded = tuple[AudioHandler, tuple[str, ...], str]
"""A model, the languages that it understands, and its family."""

SECONDS = 35.0
ASKED: dict[str, tuple[dict[str, Any], str]] = {
    "language": ({"language": "en"}, "language"),
    "prompt": ({"prompt": "a talk about quays"}, "prompt"),
    "hotwords": ({"hotwords": ("quay",)}, "hotwords"),
    "temperature": ({"temperature": 0.5}, "temperature"),
    "translation": ({"translate": True, "language": "en"}, "model"),
    "words": ({"words": True}, "timestamp_granularities"),
    "logprobs": ({"logprobs": True}, "include"),
}
"""What a request may ask for, and the field that is named where the family lacks it."""

TAKES = {
    "moonshine": {"temperature"},
    "parakeet": set(),
    "sensevoice": {"language"},
    "canary": {"language", "temperature", "translation"},
    "mms": set(),
    "qwen3_asr": {"language", "prompt", "hotwords", "temperature"},
}


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    folder = make_hearing(tmp_path_factory.mktemp("hearing") / request.param, request.param)
    handler = make_handler("audio")
    assert isinstance(handler, AudioHandler)
    facts = handler.load(Load(str(folder), "audio", 4, 512, "/nowhere"), print)
    assert (facts.transcribes, facts.speaks, facts.architecture) == (True, False, request.param)
    yield handler, facts.languages, request.param
    handler.close()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "tone.wav"
    path.write_bytes(wav(SECONDS))
    return path


def told(handler: AudioHandler, recording: Path, **asked: Any) -> list[Recording | Segment]:
    """What a client is told."""
    [job] = handler.prepare(1, handler.open(TranscriptionRequest(path=str(recording), **asked)))
    results, last = results_of(handler.engine, job)
    assert (last.finish, last.progress) == ("stop", (35, 35))
    return results


def test_recording_is_written_down_piece_by_piece(loaded: Loaded, recording: Path) -> None:
    handler, _, family = loaded
    # With tied random weights it says the prompt's last token again, which is a line's end where no language is named.
    first, *segments = told(handler, recording, **({"language": "de"} if family == "qwen3_asr" else {}))
    assert isinstance(first, Recording)
    assert first.duration_s == SECONDS
    assert {type(one) for one in segments} == {Segment}
    assert all(one.text.startswith(" ") and one.text.strip() for one in segments)
    times = [time for one in segments for time in (one.start_s, one.end_s)]
    assert times == sorted(times)
    assert all(0 <= one.start_s < one.end_s <= SECONDS for one in segments)


@pytest.mark.parametrize("name", ASKED)
def test_what_a_family_lacks_is_refused_by_name(loaded: Loaded, recording: Path, name: str) -> None:
    handler, _, family = loaded
    asked, param = ASKED[name]
    if name in TAKES[family]:
        assert isinstance(told(handler, recording, **asked)[0], Recording)
        return
    with pytest.raises(InvalidRequest) as refused:
        handler.open(TranscriptionRequest(path=str(recording), **asked))
    assert refused.value.param == param


def test_languages_are_those_of_the_family(loaded: Loaded, recording: Path) -> None:
    handler, languages, family = loaded
    known = {"sensevoice": ("zh", "en", "yue", "ja", "ko"), "canary": ("en", "de"), "qwen3_asr": ("en", "de")}
    assert languages == known.get(family, ())
    if family in known:
        with pytest.raises(InvalidRequest, match="'cy' is none that this model knows") as refused:
            handler.open(TranscriptionRequest(path=str(recording), language="cy"))
        assert refused.value.param == "language"


def test_translation_needs_to_know_what_is_spoken(loaded: Loaded, recording: Path) -> None:
    handler, _, family = loaded
    if "translation" in TAKES[family]:
        with pytest.raises(InvalidRequest, match="what is spoken") as refused:
            handler.open(TranscriptionRequest(path=str(recording), translate=True))
        assert refused.value.param == "language"


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("en", "english"),
        ("English", "english"),
        (["German", "English"], "german"),
        ("unknown", ""),
        (None, ""),
        ([], ""),
    ],
)
def test_languages_have_their_english_names(said: Any, name: str) -> None:
    assert name_of(said) == name
