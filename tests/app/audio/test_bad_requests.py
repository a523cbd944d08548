"""Requests for sounds and pictures that can't be: each is refused by the name of its field, in the one shape of errors,
and the workers never notice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.pictures import picture_file, plain
from support.running.servers import Server
from support.sounds import wav

pytestmark = pytest.mark.model

SPEECH, PICTURES = "/v1/audio/speech", "/v1/images/generations"
HEAR, TRANSLATE, EDIT = "/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/edits"
SOUND, PICTURE = wav(0.2), picture_file(plain(size=(64, 64)))
FOLDED = b"[" * 100_000
"""More deeply nested than anybody's JSON."""

BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"hello",
    "half of it": b'{"input": "hi", "prompt": "hi"',
    "a list": b"[]",
    "a text": b'"hi"',
    "null": b"null",
    "no UTF-8": b'{"input": "\xff\xfe", "prompt": "\xff\xfe"}',
    "no number": b'{"input": "hi", "prompt": "hi", "speed": NaN, "n": NaN}',
    "folded": b'{"input": ' + FOLDED,
    "half a character": b'{"input": "\\ud800", "prompt": "\\ud800"}',
    "a comma too many": b'{"input": "hi", "prompt": "hi",}',
}

SPOKEN: dict[str, tuple[Any, str]] = {
    "null": ({"input": None}, "input"),
    "a list": ({"input": ["hi"]}, "input"),
    "true": ({"input": True}, "input"),
    "zero-width spaces": ({"input": "\u200b\u200b"}, "input"),
    "nothing that is spoken": ({"input": "...!?"}, "input"),
    "a smile": ({"input": "\N{GRINNING FACE}"}, "input"),
    "a control character": ({"input": "\0\x01"}, "input"),
    "a voice's number": ({"voice": 5}, "voice"),
    "voices": ({"voice": ["alloy", "echo"]}, "voice"),
    "a voice without a name": ({"voice": ""}, "voice"),
    "a voice whose id is a number": ({"voice": {"id": 5}}, "voice.id"),
    "a voice with a long name": ({"voice": "v" * 300}, "voice"),
    "a voice with a zero": ({"voice": "af_heart\0"}, "voice"),
    "a mixture of voices": ({"voice": "af_heart,af_bella"}, "voice"),
    "no speed": ({"speed": 0}, "speed"),
    "backwards": ({"speed": -1}, "speed"),
    "a truth as speed": ({"speed": True}, "speed"),
    "speed as text": ({"speed": "1.0"}, "speed"),
    "speed beyond numbers": (b'{"model": "tts-1", "input": "hi", "speed": 1e999}', "speed"),
    "a format in capitals": ({"response_format": "MP3"}, "response_format"),
    "an object as format": ({"response_format": {"type": "mp3"}}, "response_format"),
    "long instructions": ({"instructions": "x" * 5000}, "instructions"),
    "a long model": ({"model": "m" * 300}, "model"),
    "a model's number": ({"model": 1}, "model"),
    "a model that draws": ({"model": "gpt-image-1"}, "model"),
    "a user's number": ({"user": 1}, "user"),
}

DRAWN: dict[str, tuple[Any, str]] = {
    "null": ({"prompt": None}, "prompt"),
    "a list": ({"prompt": ["hi"]}, "prompt"),
    "more than a book": ({"prompt": "x" * 33_000}, "prompt"),
    "no picture": ({"n": 0}, "n"),
    "half a picture": ({"n": 1.5}, "n"),
    "a truth": ({"n": True}, "n"),
    "a number as text": ({"n": "2"}, "n"),
    "a number of 400 digits": ({"n": 10**400}, "n"),
    "a side": ({"size": 64}, "size"),
    "half a size": ({"size": "64x"}, "size"),
    "below zero": ({"size": "-64x64"}, "size"),
    "no size": ({"size": "0x0"}, "size"),
    "a wall": ({"size": "99999x99999"}, "size"),
    "a size on two lines": ({"size": "64x64\n"}, "size"),
    "a size in other digits": ({"size": "\u0666\u0664x\u0666\u0664"}, "size"),
    "a capital": ({"size": "64X64"}, "size"),
    "a seed beyond 64 bits": ({"seed": 2**63}, "seed"),
    "half a seed": ({"seed": 1.5}, "seed"),
    "no step": ({"steps": 0}, "steps"),
    "too many steps": ({"steps": 1001}, "steps"),
    "guidance beyond numbers": (b'{"model": "gpt-image-1", "prompt": "x", "guidance": 1e999}', "guidance"),
    "guidance that pushes away": ({"guidance": -1}, "guidance"),
    "four unfinished ones": ({"partial_images": 4, "stream": True}, "partial_images"),
    "compression beyond all": ({"output_compression": 101, "output_format": "jpeg"}, "output_compression"),
    "a stream as text": ({"stream": "true"}, "stream"),
    "a format in capitals": ({"output_format": "PNG"}, "output_format"),
    "a model that speaks": ({"model": "tts-1"}, "model"),
    "a style's number": ({"style": 1}, "style"),
}

Fields = dict[str, Any]
FORMS: dict[str, tuple[str, Fields, dict[str, bytes], str]] = {
    "two recordings": (HEAR, {}, {"file": SOUND, "file ": SOUND}, "file"),
    "a format in capitals": (HEAR, {"response_format": "JSON"}, {"file": SOUND}, "response_format"),
    "warmth in hexadecimal": (HEAR, {"temperature": "0x1"}, {"file": SOUND}, "temperature"),
    "warmth without end": (HEAR, {"temperature": "Infinity"}, {"file": SOUND}, "temperature"),
    "a long language": (HEAR, {"language": "e" * 40}, {"file": SOUND}, "language"),
    "a language with a zero": (HEAR, {"language": "en\0"}, {"file": SOUND}, "language"),
    "granularities as JSON": (
        HEAR,
        {"timestamp_granularities[]": '["word"]', "response_format": "verbose_json"},
        {"file": SOUND},
        "timestamp_granularities[0]",
    ),
    "a long hot word": (HEAR, {"hotwords": "x" * 300}, {"file": SOUND}, "hotwords[0]"),
    "a prompt beyond a form's": (HEAR, {"prompt": "x" * (1 << 18)}, {"file": SOUND}, "prompt"),
    "a strategy cut off": (HEAR, {"chunking_strategy": "{"}, {"file": SOUND}, "chunking_strategy"),
    "an unknown stream": (HEAR, {"stream": "2"}, {"file": SOUND}, "stream"),
    "a model that draws": (HEAR, {"model": "gpt-image-1"}, {"file": SOUND}, "model"),
    "another file": (HEAR, {}, {"recording": SOUND}, "file"),
    "a language as a file": (HEAR, {}, {"file": SOUND, "language": b"en"}, "language"),
    "words as files": (HEAR, {}, {"file": SOUND, "hotwords[]": b"quay"}, "hotwords"),
    "speakers as files": (HEAR, {}, {"file": SOUND, "known_speaker_references[]": SOUND}, "known_speaker_references"),
    "a translation's prompt as a file": (TRANSLATE, {}, {"file": SOUND, "prompt": b"Dear all"}, "prompt"),
    "a translation's language": (TRANSLATE, {"response_format": "docx"}, {"file": SOUND}, "response_format"),
    "no translation of English": (TRANSLATE, {}, {"file": SOUND}, "model"),
    "a picture's text": (EDIT, {"image": "circle.png"}, {"mask": PICTURE}, "image"),
    "a mask's text": (EDIT, {"mask": "mask.png"}, {"image": PICTURE}, "mask"),
    "steps as a file": (EDIT, {}, {"image": PICTURE, "steps": b"4"}, "steps"),
    "marks": (EDIT, {}, {"image": PICTURE, "markup": PICTURE}, "markup"),
    "a drawing": (EDIT, {}, {"image": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}, "image"),
    "half a picture": (EDIT, {}, {"image": PICTURE[: len(PICTURE) // 2]}, "image"),
    "a sound": (EDIT, {}, {"image": SOUND}, "image"),
    "two as text": (EDIT, {"n": "two"}, {"image": PICTURE}, "n"),
    "one and a half": (EDIT, {"n": "1.5"}, {"image": PICTURE}, "n"),
    "a size of a word": (EDIT, {"size": "large"}, {"image": PICTURE}, "size"),
    "a seed below zero": (EDIT, {"seed": "-1"}, {"image": PICTURE}, "seed"),
    "two prompts": (EDIT, {"prompt": ["a", "b"]}, {"image": PICTURE}, "prompt"),
    "a model that hears": (EDIT, {"model": "whisper-1"}, {"image": PICTURE}, "model"),
}


@pytest.fixture(scope="module")
def server(studio_server: Server) -> Iterator[Server]:
    """The workers are those that there were before, at the end too."""
    before = studio_server.worker_pids()
    yield studio_server
    assert studio_server.worker_pids() == before


def check_refused(answer: httpx.Response, param: str | None) -> None:
    """It is a 400 in the one shape."""
    assert answer.status_code == 400, answer.text
    told = answer.json()
    assert set(told) == {"error", "detail"}
    assert set(told["error"]) == {"message", "type", "param", "code"}
    assert told["error"]["message"] == told["detail"] != ""
    assert (told["error"]["type"], told["error"]["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize("path", [SPEECH, PICTURES])
@pytest.mark.parametrize("name", BODIES)
def test_body_that_is_no_object_is_refused(server: Server, path: str, name: str) -> None:
    answer = server.post(path, BODIES[name])
    param = answer.json()["error"]["param"]
    assert param in (None, "input", "prompt")
    check_refused(answer, param)


@pytest.mark.parametrize("name", SPOKEN)
def test_speech_that_can_not_be_is_refused(server: Server, name: str) -> None:
    fields, param = SPOKEN[name]
    body = fields if isinstance(fields, bytes) else {"model": "tts-1", "input": "hi", **fields}
    check_refused(server.post(SPEECH, body), param)


@pytest.mark.parametrize("name", DRAWN)
def test_picture_that_can_not_be_is_refused(server: Server, name: str) -> None:
    fields, param = DRAWN[name]
    body = fields if isinstance(fields, bytes) else {"model": "gpt-image-1", "prompt": "red circle", **fields}
    check_refused(server.post(PICTURES, body), param)


@pytest.mark.parametrize("path", [HEAR, EDIT])
def test_form_with_a_boundary_as_long_as_a_book_is_refused(server: Server, path: str) -> None:
    kind = f"multipart/form-data; boundary={'y' * 5000}"
    check_refused(server.http.post(f"{server.root}{path}", content=b"", headers={"Content-Type": kind}), None)


@pytest.mark.parametrize("name", FORMS)
def test_form_that_can_not_be_is_refused(server: Server, name: str) -> None:
    path, fields, files, param = FORMS[name]
    usual = {"model": "gpt-image-1", "prompt": "red circle"} if path == EDIT else {"model": "whisper-1"}
    parts = [(one.strip(), ("a", data)) for one, data in files.items()]
    check_refused(server.http.post(f"{server.root}{path}", data={**usual, **fields}, files=parts), param)
