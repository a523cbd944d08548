"""Recordings that are unusual, broken, or made to harm, all at once: each gets what it deserves, the worker lives on,
and what is heard beside them is what is heard alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from support.odd_sounds import broken, unusual, zeros
from support.pictures import picture_file, plain
from support.running.servers import Server
from support.sounds import wav
from support.voices.speech import SENTENCES, spoken

pytestmark = pytest.mark.model

SAID = spoken(SENTENCES[3])
UNUSUAL = unusual(SAID, picture_file(plain(size=(64, 64))))
BROKEN = broken(SAID)
QUIET = {"an hour of zeros": zeros(3600), "one sample": wav(1 / 16_000), "a tenth of a second": wav(0.1)}
TWICE = ("two Oggs in a row", "stereo in the middle of an MP3")
AT_ONCE = 8


def hear(server: Server, file: bytes) -> httpx.Response:
    fields = {"response_format": "verbose_json"}
    files = {"file": ("a", file)}
    return server.http.post(f"{server.url}/audio/transcriptions", data=fields, files=files, timeout=120)


@pytest.fixture(scope="module")
def answers(whisper_server: Server) -> dict[str, httpx.Response]:
    """What every file gets, with a neighbour in the middle of them."""
    neighbour = spoken(" ".join(SENTENCES[4:8]))
    workers, alone = whisper_server.worker_pids(), hear(whisper_server, neighbour).json()["text"]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        files = {**BROKEN, **QUIET, **UNUSUAL}
        asked = {name: pool.submit(hear, whisper_server, file) for name, file in files.items()}
        beside = hear(whisper_server, neighbour)
        answers = {name: answer.result() for name, answer in asked.items()}
    assert beside.json()["text"] == alone
    assert whisper_server.worker_pids() == workers
    return answers


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_file_is_heard(answers: dict[str, httpx.Response], name: str) -> None:
    answer = answers[name]
    assert answer.status_code == 200, answer.text
    heard = answer.json()
    assert "the capital" in heard["text"].lower()
    assert "paris" in heard["text"].lower()
    times = 2 if name in TWICE else 1
    assert heard["duration"] == pytest.approx(times * len(SAID) / 32_000, abs=0.2)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file_is_refused(answers: dict[str, httpx.Response], name: str) -> None:
    answer = answers[name]
    assert answer.status_code == 400, answer.text
    told = answer.json()
    assert told["error"]["message"] == told["detail"]
    assert (told["error"]["param"], told["error"]["type"]) == ("file", "invalid_request_error")


@pytest.mark.parametrize("name", QUIET)
def test_file_without_words_is_no_failure(answers: dict[str, httpx.Response], name: str) -> None:
    assert answers[name].status_code == 200, answers[name].text
    assert answers["an hour of zeros"].json()["text"] == ""
    assert answers["an hour of zeros"].json()["duration"] == 3600
