import os
from pathlib import Path

import pytest

from mlx_server.app.media.files import NO_SUCH_FILE, open_below, read_file
from mlx_server.app.media.problem import MediaProblem, TooLarge


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An allowed folder, a secret beside it, and ways from one to the other."""
    folder = tmp_path / "allowed"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.png").write_bytes(b"picture")
    (folder / "inner" / "b c.png").write_bytes(b"another")
    (folder / "empty.png").touch()
    (folder / "inside.png").symlink_to("inner/b c.png")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "allowed-too").write_bytes(b"secret")
    (folder / "outside.png").symlink_to(tmp_path / "secret")
    (folder / "out").symlink_to(tmp_path)
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("a.png", b"picture"),
        ("inner/b%20c.png", b"another"),
        ("inner/../a.png", b"picture"),
        ("inside.png", b"another"),
    ],
)
@pytest.mark.parametrize("host", ["", "localhost"])
def test_files_of_the_folder_are_read(folder: Path, host: str, path: str, data: bytes) -> None:
    assert read_file(folder, f"file://{host}{folder}/{path}", 100) == data


def test_the_folder_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert read_file(link, f"file://{link}/a.png", 100) == b"picture"
    assert read_file(link, f"file://{folder}/a.png", 100) == b"picture"


@pytest.mark.parametrize(
    "path",
    [
        *("/../secret", "/%2e%2e/secret", "/inner/../../secret", "-too", "/outside.png", "/out/secret", "/loop"),
        *("/pipe", "/inner", "/", "", "/nothing.png", "/a.png/more", "/a.png%00", "/%ff", "/" + "x" * 5000),
    ],
)
def test_anything_else_is_not_there(folder: Path, path: str) -> None:
    with pytest.raises(MediaProblem) as caught:
        read_file(folder, f"file://{folder}{path}", 100)
    assert str(caught.value) == NO_SUCH_FILE


@pytest.mark.parametrize("url", ["file:///etc/passwd", "file:/etc/passwd", "file:a.png", "file:", "file:///"])
def test_other_folders_are_not_there(folder: Path, url: str) -> None:
    with pytest.raises(MediaProblem) as caught:
        read_file(folder, url, 100)
    assert str(caught.value) == NO_SUCH_FILE


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1", "user@localhost", "localhost:80"])
def test_other_hosts_are_refused(folder: Path, host: str) -> None:
    with pytest.raises(MediaProblem, match="names no host"):
        read_file(folder, f"file://{host}{folder}/a.png", 100)


def test_a_link_that_appears_meanwhile_is_not_followed(folder: Path) -> None:
    for inside in (Path("outside.png"), Path("out/secret"), Path("inside.png")):
        with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
            open_below(folder, inside)


def test_no_descriptor_is_left_open(folder: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    read_file(folder, f"file://{folder}/inner/b%20c.png", 100)
    for path in ("pipe", "inner", "nothing"):
        with pytest.raises(MediaProblem):
            read_file(folder, f"file://{folder}/{path}", 100)
    assert len(os.listdir("/dev/fd")) == before


def test_size_is_bounded(folder: Path) -> None:
    with pytest.raises(TooLarge):
        read_file(folder, f"file://{folder}/a.png", 6)
    with pytest.raises(MediaProblem, match="is empty"):
        read_file(folder, f"file://{folder}/empty.png", 6)


def test_without_a_folder_nothing_is_read() -> None:
    with pytest.raises(MediaProblem, match="--allowed-media-dir"):
        read_file(None, "file:///etc/passwd", 100)
