"""Addresses of pictures: nobody can guess one, and none lasts."""

from __future__ import annotations

from pathlib import Path

from mlx_server.app.media.picture_links import PictureLinks


def test_a_picture_is_found_by_its_name_alone(tmp_path: Path) -> None:
    links = PictureLinks(tmp_path)
    first, second = links.keep(b"one", "image/png"), links.keep(b"one", "image/webp")
    assert first != second
    assert len(first) >= 32
    found = links.find(first)
    assert found is not None
    assert (found.path.read_bytes(), found.media_type) == (b"one", "image/png")
    assert links.find("../" + first) is None
    assert links.find("") is None


def test_an_address_ends(tmp_path: Path) -> None:
    links = PictureLinks(tmp_path, lifetime_s=0)
    name = links.keep(b"one", "image/png")
    assert links.find(name) is None
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_go_where_there_are_too_many(tmp_path: Path) -> None:
    links = PictureLinks(tmp_path, most_bytes=10)
    names = [links.keep(bytes(4), "image/png") for _ in range(4)]
    assert [links.find(name) is not None for name in names] == [False, False, True, True]
    large = links.keep(bytes(100), "image/png")
    assert links.find(large) is not None
    assert len(list(tmp_path.iterdir())) == 1
