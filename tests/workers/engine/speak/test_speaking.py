"""How models that speak are asked, whatever their `generate` is like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, get_args

import mlx.core as mx
import pytest
from support.computing import results_of

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import Sound
from mlx_server.schemas.internal.sound import SoundFormat, SpeechRequest
from mlx_server.workers.engine.speak.speaking import Speaking

RATE = 24_000
TEXTS = ("One. Two.", "Three. Four.")


def part(loudness: float, count: int = RATE // 10) -> Any:
    return SimpleNamespace(audio=mx.full((count,), loudness), sample_rate=RATE, token_count=1)


class InParts:
    """Keeps on itself what it is about, as models with a codec's states do; ends with a part without sound."""

    said = 0.0

    def generate(self, text: str) -> Iterator[Any]:
        self.said = len(text) / 100
        for _ in range(3):
            self.said += 0.01
            yield part(self.said)
        yield part(0.0, 0)


class Whole:
    """Has a parameter only to refuse it."""

    def generate(self, text: str, *, stream: bool = False, **_: Any) -> Iterator[Any]:
        if stream:
            raise NotImplementedError
        yield part(0.1)


class Deaf:
    """Has parameters that do nothing."""

    config = SimpleNamespace(tts_model_type="custom_voice")

    def generate(self, text: str, speed: float = 1.0, instruct: str | None = None) -> Iterator[Any]:
        yield part(0.1)


Deaf.__module__ = "mlx_audio.tts.models.qwen3_tts.qwen3_tts"


def speech(speaking: Speaking, text: str = TEXTS[0], sound_format: SoundFormat = "pcm", **asked: Any) -> Any:
    return speaking.job(1, SpeechRequest(text=text, format=sound_format, **asked))


def sound_of(results: list[Any]) -> bytes:
    return b"".join(one.data for one in results if isinstance(one, Sound))


@pytest.mark.parametrize("sound_format", get_args(SoundFormat))
def test_part_without_sound_ends_nothing(sound_format: SoundFormat) -> None:
    speaking = Speaking(InParts(), ())
    results, last = results_of(speaking.engine, speech(speaking, sound_format=sound_format))
    assert (last.finish, last.progress[0] > 0, bool(sound_of(results))) == ("stop", True, True)


def test_who_speaks_beside_changes_nothing() -> None:
    def alone(text: str) -> bytes:
        speaking = Speaking(InParts(), ())
        return sound_of(results_of(speaking.engine, speech(speaking, text))[0])

    speaking = Speaking(InParts(), ())
    jobs = [speech(speaking, text) for text in TEXTS]
    for number, job in enumerate(jobs):
        job.key = (number, 0)
        speaking.engine.add(job)
    found: dict[int, list[Any]] = {0: [], 1: []}
    while speaking.engine.busy:
        for one in speaking.engine.step():
            found[one.key[0]] += one.results
    assert [sound_of(one) for one in found.values()] == [alone(text) for text in TEXTS]


def test_models_that_refuse_to_stream_are_not_asked_to() -> None:
    speaking = Speaking(Whole(), ())
    assert sound_of(results_of(speaking.engine, speech(speaking))[0])


def refusal(work: Callable[[], object]) -> str | None:
    with pytest.raises(InvalidRequest) as refused:
        work()
    return refused.value.param


def test_what_a_family_does_not_read_is_refused() -> None:
    assert refusal(lambda: speech(Speaking(Deaf(), ()), speed=1.5)) == "speed"
    assert speech(Speaking(Deaf(), ()), instructions="Whisper.").options == {"instruct": "Whisper."}


def test_voice_that_is_to_be_described_is_asked_for() -> None:
    class Described(Deaf):
        config = SimpleNamespace(tts_model_type="voice_design")

    assert refusal(lambda: speech(Speaking(Described(), ()))) == "instructions"
