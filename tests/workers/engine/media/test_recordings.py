"""Recordings: what their files become, whatever they are in, and what none of them may do to the worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.odd_sounds import SAMPLES, made
from support.sounds import CONTAINERS, RATE, encoded, film, silence, wav

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import MediaLimits
from mlx_server.workers.engine.media.recordings import Recording, RecordingReader

LONGEST_S = 5.0


@pytest.fixture(scope="module")
def reader() -> Iterator[RecordingReader]:
    reader = RecordingReader(MediaLimits(recording_s=LONGEST_S), 1)
    yield reader
    reader.close()


def read(reader: RecordingReader, tmp_path: Path, file: bytes) -> Recording:
    path = tmp_path / "upload"
    path.write_bytes(file)
    return reader.read(str(path), "file", RATE)


def refusal(reader: RecordingReader, tmp_path: Path, file: bytes) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read(reader, tmp_path, file)
    assert caught.value.param == "file"
    return caught.value.message


def check_tone(recording: Recording, seconds: float) -> None:
    samples = recording.read(0, recording.samples)
    assert abs(recording.duration_s - seconds) < 0.1
    assert 0.1 < float(np.abs(samples).max()) < 0.65  # several channels become one
    loudest = np.abs(np.fft.rfft(samples)).argmax() * RATE / len(samples)
    assert abs(loudest - 440) < 3


@pytest.mark.parametrize("container", CONTAINERS)
def test_what_clients_record_in_is_read(reader: RecordingReader, tmp_path: Path, container: str) -> None:
    check_tone(read(reader, tmp_path, encoded(wav(1.0), container)), 1.0)


@pytest.mark.parametrize(
    ("rate", "layout"), [(8_000, "mono"), (44_100, "stereo"), (48_000, "5.1"), (96_000, "5.1"), (22_050, "mono")]
)
def test_any_rate_and_number_of_channels_is_one_channel_at_the_wanted_rate(
    reader: RecordingReader, tmp_path: Path, rate: int, layout: str
) -> None:
    check_tone(read(reader, tmp_path, encoded(wav(1.0, 48_000), "flac", rate, layout)), 1.0)


@pytest.mark.parametrize("name", SAMPLES)
def test_rare_samples_are_read(reader: RecordingReader, tmp_path: Path, name: str) -> None:
    check_tone(read(reader, tmp_path, made(wav(1.0), *SAMPLES[name])), 1.0)


def test_a_films_sound_is_read(reader: RecordingReader, tmp_path: Path) -> None:
    check_tone(read(reader, tmp_path, film(wav(1.0))), 1.0)


def test_silence_is_a_recording(reader: RecordingReader, tmp_path: Path) -> None:
    recording = read(reader, tmp_path, silence(1.0))
    assert recording.samples == RATE
    assert not recording.read(0, RATE).any()


def test_parts_are_read_from_where_they_begin(reader: RecordingReader, tmp_path: Path) -> None:
    recording = read(reader, tmp_path, wav(1.0))
    whole = recording.read(0, 2 * RATE)
    assert whole.size == recording.samples == RATE
    assert np.array_equal(recording.read(100, 50), whole[100:150])
    assert recording.read(RATE, 10).size == 0


MP3 = encoded(wav(1.0), "mp3")
BROKEN = {
    "nothing": b"",
    "text": b"hello, this is no sound at all\n" * 50,
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(500),
    "a wav's head": wav(1.0)[:44],
    "half a head": wav(1.0)[:20],
    "a list of other files": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
    "a script for ffmpeg": b"ffconcat version 1.0\nfile '/etc/hostname'\n",
    "a stream's description": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    "zeros": bytes(4096),
    "an mp4 without its end": film(wav(1.0))[:300],
}


@pytest.mark.parametrize("file", BROKEN.values(), ids=BROKEN)
def test_what_is_no_sound_is_refused_and_the_next_is_read(reader: RecordingReader, tmp_path: Path, file: bytes) -> None:
    message = refusal(reader, tmp_path, file)
    assert "no sound" in message
    check_tone(read(reader, tmp_path, wav(0.5)), 0.5)


def test_what_is_broken_in_the_middle_is_passed_over(reader: RecordingReader, tmp_path: Path) -> None:
    broken = MP3[: len(MP3) // 2] + bytes(300) + MP3[len(MP3) // 2 :]
    assert 0.7 < read(reader, tmp_path, broken).duration_s < 1.3


def test_rate_and_channels_may_change_in_the_middle(reader: RecordingReader, tmp_path: Path) -> None:
    other = encoded(wav(1.0, 44_100), "mp3", 44_100, "stereo")
    check_tone(read(reader, tmp_path, MP3 + other), 2.1)


def test_a_recording_that_is_too_long_is_refused(reader: RecordingReader, tmp_path: Path) -> None:
    assert f"longer than {LONGEST_S:g} seconds" in refusal(reader, tmp_path, silence(LONGEST_S + 1))


def test_a_file_that_is_gone_is_refused(reader: RecordingReader, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        reader.read(str(tmp_path / "gone"), "file", RATE)


def test_who_leaves_is_not_decoded_for(reader: RecordingReader, tmp_path: Path) -> None:
    left = threading.Event()
    left.set()
    path = tmp_path / "upload"
    path.write_bytes(wav(1.0))
    with pytest.raises(InvalidRequest, match="no longer waited for"):
        reader.read(str(path), "file", RATE, left.is_set)
    check_tone(reader.read(str(path), "file", RATE), 1.0)
