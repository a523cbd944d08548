"""Files that are nearly pictures, sounds or films: decoded, or refused with the place of the file; never a hang."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.films import film_file
from support.pictures import halves, picture_file
from support.sounds import encoded, wav

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Media, MediaKind
from mlx_server.schemas.internal.messages import MediaLimits
from mlx_server.workers.engine.media.films import FilmReader
from mlx_server.workers.engine.media.pictures import PictureReader
from mlx_server.workers.engine.media.sounds import SoundReader

LIMITS = MediaLimits(image_pixels=100_000, duration_s=5.0, decode_s=5.0)
PICTURES = [picture_file(halves((32, 16)), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF")]
SOUNDS = [wav(0.1), *(encoded(wav(0.1), container) for container in ("mp3", "flac"))]
CHANGED = {
    "place": st.integers(0, 400),
    "new": st.binary(max_size=8),
    "dropped": st.integers(0, 8),
}
# Other programs decode: an input on which one of them ends is not kept, as a child process is what it ended.
each = settings(max_examples=60, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def readers() -> Iterator[dict[str, Any]]:
    found = {"image": PictureReader(LIMITS), "audio": SoundReader(LIMITS), "video": FilmReader(LIMITS)}
    yield found
    for reader in found.values():
        reader.close()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return film_file(tmp_path_factory.mktemp("film") / "a.mp4", [(250, 0, 0)] * 4)


def read(readers: dict[str, Any], kind: MediaKind, file: bytes) -> None:
    """It may be refused."""
    media = [Media(kind, file, 0, "messages[0]")]
    with contextlib.suppress(InvalidRequest):
        readers[kind].read(media, 16_000) if kind == "audio" else readers[kind].read(media)


def changed(file: bytes, place: int, new: bytes, dropped: int) -> bytes:
    return file[:place] + new + file[place + dropped :]


@each
@given(file=st.sampled_from(PICTURES), **CHANGED)
def test_changed_pictures(readers: dict[str, Any], file: bytes, place: int, new: bytes, dropped: int) -> None:
    read(readers, "image", changed(file, place, new, dropped))


@each
@given(file=st.sampled_from(SOUNDS), **CHANGED)
def test_changed_sounds(readers: dict[str, Any], file: bytes, place: int, new: bytes, dropped: int) -> None:
    read(readers, "audio", changed(file, place, new, dropped))


@each
@given(**CHANGED)
def test_changed_films(readers: dict[str, Any], film: bytes, place: int, new: bytes, dropped: int) -> None:
    read(readers, "video", changed(film, place, new, dropped))
