"""Films: which frames are seen, and what no file may do to the worker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.films import film_file
from support.pictures import picture_file, plain

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Media
from mlx_server.schemas.internal.messages import MediaLimits
from mlx_server.workers.engine.media.films import Film, FilmReader

PARAM = "messages[0].content[0]"
RED, BLUE = (250, 0, 0), (0, 0, 250)


@pytest.fixture(scope="module")
def reader() -> Iterator[FilmReader]:
    reader = FilmReader(MediaLimits(image_pixels=100_000, duration_s=30.0))
    yield reader
    reader.close()


def read(reader: FilmReader, file: bytes) -> Film:
    (film,) = reader.read([Media("video", file, 0, PARAM)])
    return film


def refusal(reader: FilmReader, file: bytes) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read(reader, file)
    assert caught.value.param == PARAM
    return caught.value.message


@pytest.mark.parametrize(("name", "code"), [("a.mp4", "mp4v"), ("a.mov", "mp4v"), ("a.avi", "MJPG"), ("a.mkv", "mp4v")])
def test_two_frames_a_second_are_seen_in_rgb(reader: FilmReader, tmp_path: Path, name: str, code: str) -> None:
    film = read(reader, film_file(tmp_path / name, [RED] * 20 + [BLUE] * 20, code=code))
    assert (film.frames.shape, film.total, film.fps) == ((8, 3, 48, 64), 40, 10.0)
    assert film.indices == [0, 6, 11, 17, 22, 28, 33, 39]
    colours = film.frames.mean(axis=(2, 3)).round(-1)
    assert [int(colour.argmax()) for colour in colours] == [0] * 4 + [2] * 4


def test_of_a_long_film_frames_are_seen_at_greater_distances(reader: FilmReader, tmp_path: Path) -> None:
    film = read(reader, film_file(tmp_path / "a.mp4", [RED] * 100, fps=4.0))
    assert (len(film.frames), film.indices[0], film.indices[-1]) == (32, 0, 99)


def test_a_short_film_is_seen_whole(reader: FilmReader, tmp_path: Path) -> None:
    assert read(reader, film_file(tmp_path / "a.mp4", [RED] * 2)).indices == [0, 1]
    assert read(reader, film_file(tmp_path / "b.mp4", [RED])).indices == [0]


def test_all_frames_have_no_more_pixels_than_one_picture(reader: FilmReader, tmp_path: Path) -> None:
    film = read(reader, film_file(tmp_path / "a.mp4", [RED] * 20, size=(320, 240)))
    assert film.frames.shape == (4, 3, 136, 182)


def test_too_long_and_too_large_films_are_refused(reader: FilmReader, tmp_path: Path) -> None:
    assert "longer than 30 seconds" in refusal(reader, film_file(tmp_path / "a.mp4", [RED] * 40, fps=1.0))
    large = film_file(tmp_path / "b.mp4", [RED] * 4, size=(400, 300))
    assert "400 x 300 pixels; at most 100000" in refusal(reader, large)


def test_what_is_no_film_is_refused(reader: FilmReader, tmp_path: Path) -> None:
    whole = film_file(tmp_path / "a.mp4", [RED] * 20)
    secret = tmp_path / "b.mp4"
    secret.write_bytes(whole)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{secret}\n#EXT-X-ENDLIST\n".encode()
    concatenation = f"ffconcat version 1.0\nfile {secret}\n".encode()
    for file in (b"nothing", whole[:200], b"\0\0\0\x18ftyp", picture_file(plain()), playlist, concatenation):
        assert "not a film this server can read" in refusal(reader, file)
    assert read(reader, whole).indices


def test_the_process_can_open_nothing() -> None:
    code = (
        "import socket\n"
        "from mlx_server.workers.engine.media.film_child import make_ready\n"
        "make_ready({})\n"
        "for attempt in (socket.socket, lambda: open('/etc/hosts')):\n"
        "    try:\n        attempt()\n    except OSError:\n        print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["refused", "refused"], done.stderr


def test_a_film_that_takes_too_long_ends_only_its_request(tmp_path: Path) -> None:
    reader = FilmReader(MediaLimits(decode_s=0.001))
    try:
        assert "took longer" in refusal(reader, film_file(tmp_path / "a.mp4", [RED] * 20))
    finally:
        reader.close()
