"""`/v1/audio/speech` and `/v1/audio/voices` with a real Kokoro, whose words the real Whisper hears; how sound is packed
and sent, with a small model that speaks noise."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from support.running.clients import sdk
from support.running.servers import Server, serving
from support.tiny.speaking import make_speaking
from support.voices.speech import SENTENCES, word_error_rate

VOICES = [
    *("af_alloy", "af_bella", "af_heart", "af_nova", "am_echo", "am_michael", "am_onyx", "am_puck"),
    *("bf_emma", "bm_fable", "bm_george"),
]
PATH = "/v1/audio/speech"
SHORT = "Hello there."
TALKS = tuple(" ".join((f"It is {hour} now.", "Yes.", SHORT)) for hour in ("one", "two", "three"))
LONG = " ".join(f"This is sentence number {number}." for number in range(100))
SOME = LONG[:100]
RATE = 24_000
"""Of both models."""


@pytest.fixture(scope="module")
def server(kokoro_folder: Path) -> Iterator[Server]:
    with serving("--model-path", kokoro_folder, "--max-speech-characters", 400) as server:
        yield server


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One whose model has the parts of a Kokoro at tiny sizes, and random weights: it makes noise in no time."""
    with serving("--model-path", make_speaking(tmp_path_factory.mktemp("speaking") / "kitten", "kitten_tts")) as server:
        yield server


def say(server: Server, text: str, **more: Any) -> httpx.Response:
    return server.http.post(f"{server.root}{PATH}", json={"input": text, **more}, timeout=120)


def samples(server: Server, text: str, **more: Any) -> bytes:
    """The sound alone."""
    answer = say(server, text, response_format="pcm", **more)
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.fixture(scope="module")
def short(server: Server) -> bytes:
    """SHORT by Kokoro's voice of no name; said once."""
    return samples(server, SHORT)


@pytest.fixture(scope="module")
def noise(small: Server) -> bytes:
    """SOME by the small model."""
    return samples(small, SOME)


def heard(whisper: Server, sound: bytes) -> str:
    """What the model that hears writes down."""
    told = whisper.http.post(f"{whisper.root}/v1/audio/transcriptions", files={"file": ("a", sound)}, timeout=120)
    assert told.status_code == 200, told.text
    return str(told.json()["text"])


def seconds(sound: bytes) -> float:
    with av.open(io.BytesIO(sound)) as container:
        frames = list(container.decode(audio=0))
    return sum(frame.samples for frame in frames) / frames[0].sample_rate


def test_what_is_said_is_heard_with_its_numbers_and_abbreviations(server: Server, whisper_server: Server) -> None:
    text = f"{SENTENCES[3]} Dr. Brown paid 25 dollars."
    with (
        sdk(server) as client,
        client.audio.speech.with_streaming_response.create(model="kokoro", voice="alloy", input=text) as response,
    ):
        assert response.headers["content-type"] == "audio/mpeg"
        sound = response.read()
    told = heard(whisper_server, sound).replace("twenty five", "25").replace("$25", "25 dollars")
    assert "25" in told
    assert word_error_rate(text, told) <= 0.1


def test_the_documents_own_lines_work(server: Server, whisper_server: Server, tmp_path: Path) -> None:
    speech_file_path = tmp_path / "output.wav"
    with sdk(server) as client:
        response = client.audio.speech.create(
            model="lucasnewman/f5-tts-mlx", voice="alloy", input="Hello from MLX Omni Server!"
        )
        with pytest.warns(DeprecationWarning, match="with_streaming_response"):
            response.stream_to_file(speech_file_path)
    assert "hello from" in heard(whisper_server, speech_file_path.read_bytes()).lower()


@pytest.mark.parametrize(
    ("sound_format", "media_type", "magic"),
    [
        ("mp3", "audio/mpeg", b"\xff"),
        ("opus", "audio/ogg", b"OggS"),
        ("aac", "audio/aac", b"\xff\xf1"),
        ("flac", "audio/flac", b"fLaC"),
        ("wav", "audio/wav", b"RIFF"),
    ],
)
def test_every_format_is_what_it_says(
    small: Server, noise: bytes, sound_format: str, media_type: str, magic: bytes
) -> None:
    answer = say(small, SOME, response_format=sound_format)
    assert answer.headers["content-type"] == media_type
    assert answer.content.startswith(magic)
    assert seconds(answer.content) == pytest.approx(len(noise) / 2 / RATE, abs=0.1)


def test_pcm_is_samples_alone(small: Server, noise: bytes) -> None:
    pcm, wav = (say(small, SOME, response_format=sound_format) for sound_format in ("pcm", "wav"))
    assert pcm.headers["content-type"] == "audio/pcm"
    assert pcm.content == noise
    assert wav.content.endswith(noise)
    assert len(noise) / 2 / RATE > 1


def test_events_hold_the_same_sound(small: Server) -> None:
    [text, *_] = TALKS
    with (
        sdk(small) as client,
        client.audio.speech.with_streaming_response.create(
            model="kitten", voice="Leo", input=text, response_format="pcm", stream_format="sse"
        ) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    events = [httpx.Response(200, content=line[6:]).json() for line in lines]
    assert [event["type"] for event in events[:-1]] == ["speech.audio.delta"] * 3
    assert events[-1]["type"] == "speech.audio.done"
    assert events[-1]["usage"]["input_tokens"] == len(text)
    sound = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert sound == samples(small, text, voice="Leo")


def test_the_first_sentence_is_sent_before_the_last_is_computed(small: Server) -> None:
    began = time.monotonic()
    arrivals = []
    with small.http.stream("POST", f"{small.root}{PATH}", json={"input": LONG[:300]}, timeout=120) as answer:
        for _ in answer.iter_raw():
            arrivals.append(time.monotonic() - began)
    assert arrivals[0] < 0.6 * arrivals[-1]


def test_speed_is_followed(server: Server, short: bytes) -> None:
    assert 0.5 < len(short) / 2 / RATE < 3
    assert len(samples(server, SHORT, speed=2.0)) < 0.75 * len(short)


def test_several_clients_take_turns_and_get_what_each_gets_alone(small: Server) -> None:
    alone = [samples(small, text) for text in TALKS]
    assert len(set(alone)) == len(TALKS)
    with ThreadPoolExecutor(len(TALKS)) as pool:
        together = list(pool.map(lambda text: samples(small, text), TALKS))
    assert together == alone


def test_voices_are_listed_and_differ_also_at_once(server: Server, short: bytes) -> None:
    listed = server.get("/v1/audio/voices").json()
    assert listed["voices"] == VOICES
    assert listed["data"][0] == {"id": VOICES[0], "name": VOICES[0], "model": "Kokoro-82M", "object": "audio.voice"}
    voices = (VOICES[0], {"id": "bm_george"}, "am_puck")
    with ThreadPoolExecutor(len(voices)) as pool:
        first, *others = pool.map(lambda voice: samples(server, SHORT, voice=voice), voices)
    assert first == short, "what it is alone, by the first voice"
    assert len({first, *others}) == 3


def test_who_leaves_frees_the_place(small: Server) -> None:
    before = small.get("/v1/queue/stats").json()["queue_stats"]["cancelled"]
    with small.http.stream("POST", f"{small.root}{PATH}", json={"input": LONG}) as answer:
        next(answer.iter_raw())
    small.wait_until(lambda: small.stats()["active_requests"] == 0)
    assert small.get("/v1/queue/stats").json()["queue_stats"]["cancelled"] == before + 1
    assert say(small, SHORT).status_code == 200


def test_a_model_that_speaks_says_so_and_does_nothing_else(server: Server) -> None:
    model = server.get("/v1/models").json()["data"][0]
    assert model["modalities"] == {"input": ["text"], "output": ["audio"]}
    assert "voice" in model["supported_parameters"]
    refused = server.http.post(f"{server.root}/v1/audio/transcriptions", files={"file": ("a.wav", b"RIFF" * 100)})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no text": ({}, "input"),
    "an empty text": ({"input": ""}, "input"),
    "only spaces": ({"input": " \n "}, "input"),
    "a number": ({"input": 5}, "input"),
    "nothing that is spoken": ({"input": "...!?"}, "input"),
    "a smile": ({"input": "\N{GRINNING FACE}"}, "input"),
    "too long": ({"input": "word " * 100}, "input"),
    "an unknown voice": ({"input": "hi", "voice": "batman"}, "voice"),
    "a path as a voice": ({"input": "hi", "voice": "../../etc/passwd"}, "voice"),
    "an address as a voice": ({"input": "hi", "voice": "http://127.0.0.1/voice.wav"}, "voice"),
    "a voice without an id": ({"input": "hi", "voice": {}}, "voice.id"),
    "an unknown format": ({"input": "hi", "response_format": "midi"}, "response_format"),
    "too fast": ({"input": "hi", "speed": 5}, "speed"),
    "too slow": ({"input": "hi", "speed": 0.1}, "speed"),
    "no speed": ({"input": "hi", "speed": "fast"}, "speed"),
    "instructions": ({"input": "hi", "instructions": "be calm"}, "instructions"),
    "an unknown stream": ({"input": "hi", "stream_format": "websocket"}, "stream_format"),
    "no stream": ({"input": "hi", "stream": False}, "stream"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_is_named(server: Server, name: str) -> None:
    body, param = REFUSED[name]
    refused = server.http.post(f"{server.root}{PATH}", json=body)
    assert refused.status_code == 400, refused.text
    answer = refused.json()
    assert answer["error"]["param"] == param
    assert answer["detail"] == answer["error"]["message"]


def test_an_unknown_voice_is_told_the_others(server: Server) -> None:
    message = say(server, "hi", voice="batman").json()["error"]["message"]
    assert all(voice in message for voice in VOICES)
