"""Files of several requests at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from support.pictures import many_scans, picture_file, plain
from support.sounds import wav

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Media
from mlx_server.schemas.internal.messages import MediaLimits
from mlx_server.workers.engine.media.media import MediaDecoder, digest

PICTURE = Media("image", picture_file(plain("blue")), 3, "picture", "high")
SOUND = Media("audio", wav(0.5), 0, "sound")
SLOW = Media("image", many_scans(8000, 190), 0, "slow")


@pytest.fixture
def decoder() -> Iterator[MediaDecoder]:
    decoder = MediaDecoder(MediaLimits(decode_s=3.0), 2, 16_000)
    yield decoder
    decoder.close()


def test_pictures_and_sounds_come_in_order_without_their_files(decoder: MediaDecoder) -> None:
    one, two, three = decoder.decode([PICTURE, SOUND, PICTURE])
    assert (one.content.size, two.content.shape, three.content) == ((8, 4), (8000,), one.content)
    assert [media.source for media in (one, two, three)] == [b""] * 3
    assert (one.kind, one.at, one.param, one.detail) == ("image", 3, "picture", "high")
    assert (one.digest, two.digest) == (digest(PICTURE), digest(SOUND))


def test_one_request_goes_on_while_another_ones_file_takes_long(decoder: MediaDecoder) -> None:
    refused: list[InvalidRequest] = []

    def slow() -> None:
        with pytest.raises(InvalidRequest) as caught:
            decoder.decode([SLOW])
        refused.append(caught.value)

    thread = threading.Thread(target=slow)
    thread.start()
    assert decoder.decode([PICTURE])[0].content.size == (8, 4)
    assert not refused
    thread.join()
    assert "longer than 3 seconds" in refused[0].message


@pytest.mark.parametrize("files", [[SLOW], [PICTURE, SLOW, SLOW, SOUND]], ids=len)
def test_what_nobody_waits_for_is_given_up(files: list[Media]) -> None:
    decoder = MediaDecoder(MediaLimits(), 1, 16_000)
    polls = iter([False] * (len(files) + 1))
    try:
        with pytest.raises(InvalidRequest, match="no longer waited for"):
            decoder.decode(files, lambda: next(polls, True))
        assert decoder.decode([PICTURE])[0].content.size == (8, 4)
    finally:
        decoder.close()


def test_a_file_is_known_by_its_bytes_and_what_is_wanted_of_it() -> None:
    media = Media("image", b"file", 0, "x")
    assert digest(media) == digest(Media("image", b"file", 7, "y"))
    others = [Media("image", b"other", 0, "x"), Media("image", b"file", 0, "x", "low"), Media("video", b"file", 0, "x")]
    assert len({digest(media), *map(digest, others)}) == 4
