"""`/v1/audio/transcriptions` and `/v1/audio/translations` with a real Whisper, through OpenAI's SDK and by hand."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import httpx
import numpy as np
import openai
import psutil
import pytest
from openai.types.audio import (
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionVerbose,
)
from support.running.clients import sdk
from support.running.processes import kill_worker
from support.running.servers import Server, serving, wait_for
from support.sounds import CONTAINERS, encoded, film, silence, wav
from support.voices.speech import SENTENCES, spoken, word_error_rate

from mlx_server.workers.parent.environment import child_environment

SAYS = Path(__file__).parents[2] / "support" / "running" / "mlx_audio_says.py"
PATH = "/v1/audio/transcriptions"
END = 50256
"""Whisper's ids of text, in models for English, are below this one."""


class Said(NamedTuple):
    """A recording, and what mlx-audio's own `generate` writes down of it."""

    file: bytes
    expected: Any


def joined(files: list[bytes], pause_s: float = 0.5) -> bytes:
    """WAV files one after the other."""
    head, gap = files[0][:44], bytes(2 * int(16_000 * pause_s))
    data = gap.join(file[44:] for file in files)
    size = len(data)
    return head[:4] + (36 + size).to_bytes(4, "little") + head[8:40] + size.to_bytes(4, "little") + data


@pytest.fixture(scope="module")
def said(whisper_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Said]:
    """A sentence, two of them, and more than fits into one window."""
    sentences = [spoken(sentence) for sentence in SENTENCES]
    files = [sentences[1], joined(sentences[2:4]), joined(sentences)]
    folder = tmp_path_factory.mktemp("said")
    paths = []
    for number, file in enumerate(files):
        (folder / f"{number}.wav").write_bytes(file)
        paths.append(str(folder / f"{number}.wav"))
    told = subprocess.run(
        [sys.executable, SAYS, whisper_tiny, *paths], capture_output=True, timeout=600, env=child_environment()
    )
    assert told.returncode == 0, told.stderr.decode()[-2000:]
    return [Said(file, json.loads(line)) for file, line in zip(files, told.stdout.splitlines(), strict=True)]


@pytest.fixture(scope="module")
def small_server(whisper_tiny: Path) -> Iterator[Server]:
    """One that takes a megabyte, and whose worker may be killed."""
    with serving("--model-path", whisper_tiny, "--max-upload-mb", 1) as server:
        yield server


@pytest.fixture(scope="module")
def alone(small_server: Server) -> Said:
    """A recording, and what is heard in it where no worker dies."""
    file = joined([spoken(sentence) for sentence in SENTENCES[:6]])
    return Said(file, post(small_server, file=file).json()["text"])


@pytest.fixture(scope="module")
def client(whisper_server: Server) -> Iterator[openai.OpenAI]:
    with sdk(whisper_server) as client:
        yield client


def post(
    server: Server, fields: Any = None, file: bytes | None = None, path: str = PATH, **more: Any
) -> httpx.Response:
    """A form by hand."""
    files = {} if file is None else {"file": ("a.wav", file)}
    return server.http.post(f"{server.root}{path}", data=fields or {}, files=files, timeout=120, **more)


def test_what_is_said_is_what_mlx_audio_writes_down(client: openai.OpenAI, said: list[Said]) -> None:
    for one in said:
        found = client.audio.transcriptions.create(
            model="whisper", file=("a.wav", one.file), response_format="verbose_json"
        )
        assert isinstance(found, TranscriptionVerbose)
        assert word_error_rate(one.expected["text"], found.text) <= 0.01
    assert found.segments is not None
    assert max(segment.seek for segment in found.segments) > 0  # more than one window
    assert found.language == "english"
    assert found.duration == pytest.approx(len(said[-1].file) / 32_000, abs=0.1)


def test_times_are_those_of_mlx_audio(client: openai.OpenAI, said: list[Said]) -> None:
    one = said[1]
    found = client.audio.transcriptions.create(
        model="whisper",
        file=("a.wav", one.file),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert isinstance(found, TranscriptionVerbose)
    assert found.words is not None
    assert found.segments is not None
    theirs = [word for segment in one.expected["segments"] for word in segment["words"]]
    assert [word.word for word in found.words] == [word["word"].strip() for word in theirs]
    assert [word.start for word in found.words] == pytest.approx([word["start"] for word in theirs], abs=0.1)
    for ours, segment in zip(found.segments, one.expected["segments"], strict=True):
        assert [token for token in ours.tokens if token < END] == [one for one in segment["tokens"] if one < END]
        # Its decoder lets times go back, and so weighs them otherwise.
        assert ours.avg_logprob == pytest.approx(segment["avg_logprob"], abs=0.1)
        assert ours.no_speech_prob == pytest.approx(segment["no_speech_prob"], abs=0.01)


def test_the_documents_own_lines_work(client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "audio.mp3"
    path.write_bytes(encoded(spoken(SENTENCES[3]), "mp3"))
    with open(path, "rb") as audio_file:
        transcript = client.audio.transcriptions.create(
            model="mlx-community/whisper-large-v3-turbo",
            file=audio_file,
        )
    assert word_error_rate(SENTENCES[3], transcript.text) <= 0.35
    assert transcript.usage is not None
    assert transcript.usage.type == "duration"


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_kind_of_file_is_heard(whisper_server: Server, container: str) -> None:
    found = post(whisper_server, file=encoded(spoken(SENTENCES[1]), container))
    assert word_error_rate(SENTENCES[1], found.json()["text"]) <= 0.2


def test_a_films_sound_is_heard(whisper_server: Server) -> None:
    assert "paris" in post(whisper_server, file=film(spoken(SENTENCES[3]))).json()["text"].lower()


def test_text_and_subtitles(whisper_server: Server) -> None:
    file = spoken(SENTENCES[3])
    text = post(whisper_server, {"response_format": "text"}, file)
    assert text.headers["content-type"].startswith("text/plain")
    assert word_error_rate(SENTENCES[3], text.text) == 0
    srt = post(whisper_server, {"response_format": "srt"}, file).text
    assert srt.startswith("1\n00:00:00,")
    assert srt.splitlines()[2] == text.text.strip()
    vtt = post(whisper_server, {"response_format": "vtt"}, file)
    assert vtt.headers["content-type"].startswith("text/vtt")
    assert vtt.text.startswith("WEBVTT\n\n00:00:00.")
    assert "-->" in vtt.text


def jobs_of(server: Server) -> list[dict[str, Any]]:
    """What it hears now, and how far it is with it."""
    return list(server.get("/v1/queue/stats").json()["queue_stats"]["jobs"])


def test_a_stream_has_each_segment_as_it_is_ready(client: openai.OpenAI, said: list[Said]) -> None:
    stream = client.audio.transcriptions.create(
        model="whisper", file=("a.wav", said[-1].file), stream=True, include=["logprobs"]
    )
    events = list(stream)
    deltas = [event for event in events if isinstance(event, TranscriptionTextDeltaEvent)]
    done = events[-1]
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert len(deltas) == len(events) - 1 > 1
    assert "".join(event.delta for event in deltas) == done.text
    assert word_error_rate(said[-1].expected["text"], done.text) <= 0.01
    assert done.logprobs is not None
    assert "".join(one.token or "" for one in done.logprobs).strip() == done.text
    assert done.usage is not None
    assert done.usage.output_tokens > 0


def test_logprobs_come_with_json(client: openai.OpenAI) -> None:
    found = client.audio.transcriptions.create(
        model="whisper", file=("a.wav", spoken(SENTENCES[3])), include=["logprobs"]
    )
    assert found.logprobs is not None
    assert all(one.logprob is not None and one.logprob <= 0 for one in found.logprobs)
    assert b"".join(bytes(map(int, one.bytes or ())) for one in found.logprobs).decode().strip() == found.text


def test_several_clients_at_once_get_what_each_gets_alone(whisper_server: Server) -> None:
    files = [spoken(sentence) for sentence in SENTENCES[:4]]
    alone = [post(whisper_server, file=file).json()["text"] for file in files]
    with ThreadPoolExecutor(len(files)) as pool:
        together = list(pool.map(lambda file: post(whisper_server, file=file).json()["text"], files))
    assert together == alone


def test_silence_is_no_text(whisper_server: Server) -> None:
    found = post(whisper_server, {"response_format": "verbose_json"}, silence(3.0)).json()
    assert (found["text"], found["segments"], found["duration"]) == ("", [], 3.0)


def test_fields_that_change_nothing_are_told(whisper_server: Server) -> None:
    told = post(whisper_server, {"chunking_strategy": "auto", "colour": "red"}, spoken(SENTENCES[3]))
    assert told.status_code == 200
    assert told.headers["x-ignored-fields"] == "colour, chunking_strategy"


def test_a_model_that_hears_says_so(whisper_server: Server) -> None:
    stats = whisper_server.get("/v1/queue/stats").json()
    assert stats["queue_stats"]["served"] > 0
    model = whisper_server.get("/v1/models").json()["data"][0]
    assert model["modalities"] == {"input": ["audio"], "output": ["text"]}
    assert "language" in model["supported_parameters"]


def test_how_far_a_recording_is_can_be_watched(whisper_server: Server, said: list[Said]) -> None:
    seen: list[dict[str, Any]] = []

    def jobs() -> bool:
        seen.extend(jobs_of(whisper_server))
        return bool(seen)

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, whisper_server, None, said[-1].file)
        wait_for(jobs)
        assert answer.result().status_code == 200
    assert seen[0]["unit"] == "seconds"
    assert seen[0]["done"] < seen[0]["total"] == -(-len(said[-1].file) // 32_000)
    assert jobs_of(whisper_server) == []


def test_a_model_that_hears_does_nothing_else(whisper_server: Server) -> None:
    chat = whisper_server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
    assert chat.status_code == 400
    assert "/v1/audio/transcriptions" in chat.json()["error"]["message"]
    speech = whisper_server.post("/v1/audio/speech", {"input": "hi"})
    assert (speech.status_code, speech.json()["error"]["param"]) == (400, "model")


def test_a_model_that_writes_transcribes_nothing(scripted_server: Server) -> None:
    refused = post(scripted_server, file=wav(0.1))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")


SOUND = wav(0.2)
REFUSED: dict[str, tuple[dict[str, Any], bytes | None, str | None]] = {
    "no file": ({}, None, "file"),
    "an empty file": ({}, b"", "file"),
    "no sound": ({}, b"hello " * 100, "file"),
    "a picture": ({}, b"\x89PNG\r\n\x1a\n" + bytes(200), "file"),
    "the file as a text": ({"file": "hello"}, None, "file"),
    "an unknown format": ({"response_format": "docx"}, SOUND, "response_format"),
    "speakers": ({"response_format": "diarized_json"}, SOUND, "response_format"),
    "a temperature that is none": ({"temperature": "warm"}, SOUND, "temperature"),
    "too hot": ({"temperature": "2"}, SOUND, "temperature"),
    "below zero": ({"temperature": "-1"}, SOUND, "temperature"),
    "no number": ({"temperature": "nan"}, SOUND, "temperature"),
    "an unknown language": ({"language": "klingon"}, SOUND, "language"),
    "two languages": ({"languages[]": ["en", "de"]}, SOUND, "languages"),
    "an unknown granularity": ({"timestamp_granularities[]": "letter"}, SOUND, "timestamp_granularities[0]"),
    "words in plain json": ({"timestamp_granularities[]": "word"}, SOUND, "timestamp_granularities"),
    "an unknown extra": ({"include[]": "smell"}, SOUND, "include[0]"),
    "probabilities in subtitles": ({"include[]": "logprobs", "response_format": "srt"}, SOUND, "include"),
    "a stream of subtitles": ({"stream": "true", "response_format": "srt"}, SOUND, "response_format"),
    "a stream that is none": ({"stream": "maybe"}, SOUND, "stream"),
    "cuts of its own": ({"chunking_strategy": '{"type":"server_vad"}'}, SOUND, "chunking_strategy"),
    "names of speakers": ({"known_speaker_names[]": "Ann"}, SOUND, "known_speaker_names"),
    "the same twice": ({"language": ["en", "en"]}, SOUND, "language"),
    "too long a prompt": ({"prompt": "word " * 2000}, SOUND, "prompt"),
    "too long a name": ({"model": "m" * 300}, SOUND, "model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_is_named(whisper_server: Server, name: str) -> None:
    fields, file, param = REFUSED[name]
    refused = post(whisper_server, fields, file) if file is not None else post_form(whisper_server, fields)
    assert refused.status_code == 400, refused.text
    answer = refused.json()
    assert answer["error"]["param"] == param
    assert answer["detail"] == answer["error"]["message"]


def post_form(server: Server, fields: dict[str, Any]) -> httpx.Response:
    """A form without a file."""
    parts = [(name, (None, str(value))) for name, value in (fields or {"model": "m"}).items()]
    return server.http.post(f"{server.root}{PATH}", files=parts, timeout=60)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b"--y\r\n"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc'),
        ("multipart/form-data; boundary=x", b"--x\r\nno header\r\n\r\nabc\r\n--x--\r\n"),
        ("text/plain", b"hello"),
    ],
)
def test_what_is_no_form_is_refused(whisper_server: Server, content_type: str, body: bytes) -> None:
    refused = whisper_server.http.post(
        f"{whisper_server.root}{PATH}", content=body, headers={"content-type": content_type}
    )
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["type"] == "invalid_request_error"


def test_a_form_that_is_too_large_is_refused_and_leaves_nothing(small_server: Server) -> None:
    assert post(small_server, file=bytes(2 << 20)).status_code == 413
    chunks = (bytes(1 << 16) for _ in range(40))
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    told = small_server.http.post(
        f"{small_server.root}{PATH}",
        content=(piece for piece in (body, *chunks)),
        headers={"content-type": "multipart/form-data; boundary=x"},
    )
    assert told.status_code == 413
    assert post(small_server, file=spoken(SENTENCES[3])).status_code == 200


def test_translations_need_a_model_of_several_languages(whisper_server: Server) -> None:
    refused = post(whisper_server, file=wav(0.5), path="/v1/audio/translations")
    assert refused.status_code == 400
    assert "English only" in refused.json()["error"]["message"]


def test_who_leaves_frees_the_place(whisper_server: Server, said: list[Said]) -> None:
    before = whisper_server.get("/v1/queue/stats").json()["queue_stats"]
    with pytest.raises(httpx.TimeoutException):
        whisper_server.http.post(
            f"{whisper_server.root}{PATH}",
            files={"file": ("a.wav", said[-1].file)},
            timeout=httpx.Timeout(60, read=0.3),
        )
    after = post(whisper_server, file=spoken(SENTENCES[3]))
    assert after.status_code == 200
    stats = whisper_server.get("/v1/queue/stats").json()["queue_stats"]
    assert stats["cancelled"] == before["cancelled"] + 1
    assert stats["active_requests"] == 0


def test_noise_is_no_reason_to_fail(whisper_server: Server) -> None:
    noise = np.random.default_rng(3).integers(-8000, 8000, 32_000, dtype="<i2")
    file = io.BytesIO(joined([wav(0.1)]))
    sound = joined([file.getvalue()[:44] + noise.tobytes()])
    assert post(whisper_server, file=sound).status_code == 200


def heard_within(server: Server, file: BinaryIO) -> tuple[Any, float]:
    """What is written down of a file, and the most memory that the server has meanwhile, in MB."""
    peak = [resident_mb(server)]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(
            server.http.post,
            f"{server.root}{PATH}",
            files={"file": ("recording.wav", file)},
            data={"response_format": "verbose_json"},
            timeout=300,
        )
        while not answer.done():
            peak.append(resident_mb(server))
            time.sleep(0.05)
    return answer.result().json(), max(peak)


def test_an_hour_of_silence_takes_no_more_memory_and_the_words_after_it_are_heard(
    whisper_server: Server, tmp_path: Path
) -> None:
    sentence = spoken(SENTENCES[3])
    path = tmp_path / "hour.wav"
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        for _ in range(60):
            out.writeframes(bytes(60 * 32_000))
        out.writeframes(sentence[44:])
    _, alone = heard_within(whisper_server, io.BytesIO(sentence))
    with path.open("rb") as file:
        found, beside = heard_within(whisper_server, file)
    assert "Paris" in found["text"]
    assert found["segments"][0]["start"] > 3_590
    assert beside - alone < 100


def resident_mb(server: Server) -> float:
    """Of the server's processes."""
    front = psutil.Process(server.process.pid)
    total = 0.0
    for process in (front, *front.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss / 1e6
    return total


def test_a_worker_that_dies_is_replaced_and_the_recording_heard_again(small_server: Server, alone: Said) -> None:
    answer = answered_by_the_next_worker(small_server, alone.file)
    assert answer.json()["text"] == alone.expected


def test_a_stream_that_has_sent_nothing_is_heard_again_too(small_server: Server, alone: Said) -> None:
    answer = answered_by_the_next_worker(small_server, alone.file, {"stream": "true"})
    last = json.loads([line[6:] for line in answer.text.splitlines() if line.startswith("data: ")][-1])
    assert (last["type"], last["text"]) == ("transcript.text.done", alone.expected)


def answered_by_the_next_worker(server: Server, file: bytes, fields: Any = None) -> httpx.Response:
    """The answer to a recording whose worker is killed in the middle of it."""
    replayed = server.stats()["replayed"]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, server, fields, file)
        wait_for(lambda: jobs_of(server))
        kill_worker(server)
        answer.result()
    assert server.stats()["replayed"] == replayed + 1
    return answer.result()
