"""Files that are nearly safetensors: a header, or a refusal that says why; nothing else, and no large allocation."""

import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_server.workers.folders.safetensors_header import HeaderError, read_header

CORPUS = Path(__file__).resolve().parents[2] / "support" / "corpus" / "safetensors"
"""Files that once were worth a look, each harmless: they are read as they are, and others are made of them."""

FILES = sorted(CORPUS.iterdir())


def read(content: bytes) -> None:
    """Read it as a file, which may be refused."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        with contextlib.suppress(HeaderError):
            for tensor in read_header(Path(file.name)).values():
                assert 0 <= tensor.data_offsets[0] <= tensor.data_offsets[1] <= len(content)
                assert tensor.size >= 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_kept_files_are_read_or_refused(file: Path) -> None:
    read(file.read_bytes())


@given(file=st.sampled_from(FILES), place=st.integers(0, 200), new=st.binary(max_size=9), dropped=st.integers(0, 9))
def test_changed_files_are_read_or_refused(file: Path, place: int, new: bytes, dropped: int) -> None:
    content = file.read_bytes()
    read(content[:place] + new + content[place + dropped :])


@given(
    header=st.recursive(
        st.none() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["dtype", "shape", "data_offsets", "__metadata__", "w"]), inner, max_size=4
            )
        ),
        max_leaves=10,
    ),
    data=st.binary(max_size=20),
)
def test_any_json_is_a_header_or_refused(header: object, data: bytes) -> None:
    text = json.dumps(header).encode()
    read(len(text).to_bytes(8, "little") + text + data)
