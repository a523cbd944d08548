"""Files that are nearly GGUF: a header, or a refusal that says why; nothing else, and no large allocation."""

import contextlib
import struct
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny.gguf_files import write_gguf

from mlx_server.app.catalog.gguf_header import GgufHeaderError, read_header

LENGTHS = st.sampled_from([0, 1, 7, 2**20, 2**31, 2**62, 2**63, 2**64 - 1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that can be read."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def read(content: bytes) -> None:
    """Read it as a file, which may be refused; what was read can be told to clients."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        with contextlib.suppress(GgufHeaderError):
            msgspec.json.encode(read_header(Path(file.name)))


@given(place=st.integers(0, 2000), new=st.binary(max_size=9), dropped=st.integers(0, 9))
def test_changed_files_are_read_or_refused(whole: Path, place: int, new: bytes, dropped: int) -> None:
    content = whole.read_bytes()
    read(content[:place] + new + content[place + dropped :])


@given(place=st.integers(0, 2000), length=LENGTHS)
def test_any_length_in_a_file_is_read_or_refused(whole: Path, place: int, length: int) -> None:
    content = whole.read_bytes()
    read(content[:place] + struct.pack("<Q", length) + content[place + 8 :])


@given(kind=st.integers(0, 13), inner=st.integers(0, 13), length=LENGTHS, shape=st.lists(LENGTHS, max_size=9))
def test_any_value_and_shape_is_read_or_refused(kind: int, inner: int, length: int, shape: list[int]) -> None:
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", 1) + b"k"
    value = struct.pack("<IIQ", kind, inner, length)
    tensor = struct.pack("<Q", 1) + b"t" + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + bytes(12)
    read(head + value + tensor)
    read(head + struct.pack("<II", 4, 1) + tensor)
