"""`/v1/audio/speech` and `/v1/audio/voices` with a real Kokoro, whose words the real Whisper hears."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import av
import httpx
import openai
import pytest
from support.running.servers import Server
from support.voices.speech import SENTENCES, word_error_rate

VOICES = [
    *("af_alloy", "af_bella", "af_heart", "af_nova", "am_echo", "am_michael", "am_onyx", "am_puck"),
    *("bf_emma", "bm_fable", "bm_george"),
]
PATH = "/v1/audio/speech"
SHORT = "Hello there."
SHORTS = ("Hi.", "Yes.", SHORT)


@pytest.fixture(scope="module")
def server(kokoro_folder: Path) -> Iterator[Server]:
    server = Server("--model-path", kokoro_folder, "--max-speech-characters", 400)
    server.wait_ready()
    yield server
    server.close()


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)


def say(server: Server, text: str, **more: Any) -> httpx.Response:
    return server.http.post(f"{server.root}{PATH}", json={"input": text, **more}, timeout=120)


@pytest.fixture(scope="module")
def short(server: Server) -> Callable[[str], httpx.Response]:
    """What SHORT is in a format, by the voice of no name; said once."""
    return cache(lambda sound_format: say(server, SHORT, response_format=sound_format))


def heard(whisper: Server, sound: bytes) -> str:
    """What the model that hears writes down."""
    told = whisper.http.post(f"{whisper.root}/v1/audio/transcriptions", files={"file": ("a", sound)}, timeout=120)
    assert told.status_code == 200, told.text
    return str(told.json()["text"])


def seconds(sound: bytes) -> float:
    with av.open(io.BytesIO(sound)) as container:
        frames = list(container.decode(audio=0))
    return sum(frame.samples for frame in frames) / frames[0].sample_rate


def test_what_is_said_is_heard(server: Server, whisper_server: Server, client: openai.OpenAI) -> None:
    text = " ".join((SENTENCES[3], SENTENCES[1]))
    with client.audio.speech.with_streaming_response.create(model="kokoro", voice="alloy", input=text) as response:
        assert response.headers["content-type"] == "audio/mpeg"
        sound = response.read()
    assert word_error_rate(text, heard(whisper_server, sound)) <= 0.1


def test_the_documents_own_lines_work(client: openai.OpenAI, whisper_server: Server, tmp_path: Path) -> None:
    speech_file_path = tmp_path / "output.wav"
    response = client.audio.speech.create(
        model="lucasnewman/f5-tts-mlx", voice="alloy", input="Hello from MLX Omni Server!"
    )
    with pytest.warns(DeprecationWarning, match="with_streaming_response"):
        response.stream_to_file(speech_file_path)
    assert "hello from" in heard(whisper_server, speech_file_path.read_bytes()).lower()


def test_numbers_and_abbreviations_are_read(server: Server, whisper_server: Server) -> None:
    text = "Dr. Brown paid 25 dollars."
    assert "25" in heard(whisper_server, say(server, text, response_format="wav").content).replace("twenty five", "25")


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
    short: Callable[[str], httpx.Response], sound_format: str, media_type: str, magic: bytes
) -> None:
    answer = short(sound_format)
    assert answer.headers["content-type"] == media_type
    assert answer.content.startswith(magic)
    assert 0.5 < seconds(answer.content) < 3


def test_pcm_is_samples_alone(short: Callable[[str], httpx.Response]) -> None:
    pcm, wav = short("pcm"), short("wav")
    assert pcm.headers["content-type"] == "audio/pcm"
    assert wav.content.endswith(pcm.content)


def test_events_hold_the_same_sound(server: Server, client: openai.OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="kokoro", voice="af_heart", input=SHORT, response_format="pcm", stream_format="sse"
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    events = [httpx.Response(200, content=line[6:]).json() for line in lines]
    assert [event["type"] for event in events[:-1]] == ["speech.audio.delta"] * (len(events) - 1)
    assert events[-1]["type"] == "speech.audio.done"
    assert events[-1]["usage"]["input_tokens"] == len(SHORT)
    sound = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert sound == say(server, SHORT, voice="af_heart", response_format="pcm").content


def test_the_first_sentence_is_sent_before_the_last_is_computed(server: Server) -> None:
    text = " ".join(SHORTS)
    began = time.monotonic()
    arrivals = []
    with server.http.stream("POST", f"{server.root}{PATH}", json={"input": text}, timeout=120) as answer:
        for _ in answer.iter_raw():
            arrivals.append(time.monotonic() - began)
    assert arrivals[0] < 0.6 * arrivals[-1]


def test_speed_is_followed(server: Server, short: Callable[[str], httpx.Response]) -> None:
    usual = seconds(short("wav").content)
    fast = seconds(say(server, SHORT, speed=2.0, response_format="wav").content)
    assert fast < 0.75 * usual


def test_several_clients_take_turns_and_get_what_each_gets_alone(
    server: Server, short: Callable[[str], httpx.Response]
) -> None:
    alone = [*(say(server, text, response_format="pcm").content for text in SHORTS[:-1]), short("pcm").content]
    with ThreadPoolExecutor(len(SHORTS)) as pool:
        together = list(pool.map(lambda text: say(server, text, response_format="pcm").content, SHORTS))
    assert together == alone


def test_voices_are_listed_and_differ(server: Server, short: Callable[[str], httpx.Response]) -> None:
    listed = server.get("/v1/audio/voices").json()
    assert listed["voices"] == VOICES
    assert listed["data"][0] == {"id": VOICES[0], "name": VOICES[0], "model": "Kokoro-82M", "object": "audio.voice"}
    others = [
        say(server, SHORT, voice=voice, response_format="pcm").content for voice in ({"id": "bm_george"}, "am_puck")
    ]
    assert len({short("pcm").content, *others}) == 3


def test_who_leaves_frees_the_place(server: Server) -> None:
    before = server.get("/v1/queue/stats").json()["queue_stats"]["cancelled"]
    with server.http.stream("POST", f"{server.root}{PATH}", json={"input": " ".join(2 * SHORTS)}) as answer:
        next(answer.iter_raw())
    server.wait_until(lambda: server.stats()["active_requests"] == 0)
    assert server.get("/v1/queue/stats").json()["queue_stats"]["cancelled"] == before + 1
    assert say(server, SHORT).status_code == 200


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
