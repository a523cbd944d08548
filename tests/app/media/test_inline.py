import base64
from urllib.parse import quote

import pytest

from mlx_server.app.media.inline import decode
from mlx_server.app.media.problem import MediaProblem, TooLarge

DATA = bytes(range(256)) * 3 + b"\xfb\xff\xfe?"
PLAIN = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "url",
    [
        f"data:image/png;base64,{PLAIN}",
        f"data:;base64,{PLAIN}",
        f"DATA:IMAGE/PNG;BASE64,{PLAIN}",
        f"data:image/png;name=a.png;base64,{PLAIN}",
        f"data:image/png;base64,{PLAIN.rstrip('=')}",
        f"data:image/png;base64,{base64.urlsafe_b64encode(DATA).decode()}",
        f"data:image/png;base64,{base64.encodebytes(DATA).decode()}",
        f"data:image/png;base64,{quote(PLAIN, safe='')}",
        f"data:image/png,{quote(DATA)}",
    ],
    ids=lambda url: url[:60],
)
def test_data_urls_are_read_however_they_are_written(url: str) -> None:
    assert decode(url, len(DATA)) == DATA


@pytest.mark.parametrize("length", range(1, 9))
def test_padding_may_be_missing(length: int) -> None:
    encoded = base64.b64encode(DATA[:length]).decode()
    assert decode(f"data:;base64,{encoded}", 100) == decode(f"data:;base64,{encoded.rstrip('=')}", 100) == DATA[:length]


@pytest.mark.parametrize("text", ["A", "AAAAA", "AA=A", "AA==AA==", "A*AA", "AAA\0", "äAAA", "%zz", "%41"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(MediaProblem, match="nor base64"):
        decode(f"data:;base64,{text}", 100)


@pytest.mark.parametrize("text", ["", "=", "====", " "])
def test_an_empty_file_is_refused(text: str) -> None:
    with pytest.raises(MediaProblem, match="is empty"):
        decode(f"data:;base64,{text}", 100)


@pytest.mark.parametrize("most", [1, len(DATA) - 1])
@pytest.mark.parametrize("url", [f"data:;base64,{PLAIN}", f"data:,{quote(DATA)}", "data:;base64," + "A" * 10_000])
def test_files_that_are_too_large_are_refused(url: str, most: int) -> None:
    with pytest.raises(TooLarge, match=f"larger than {most} bytes"):
        decode(url, most)


def test_large_files_are_decoded_in_pieces() -> None:
    data = bytes(range(251)) * 20_000
    assert decode(f"data:;base64,{base64.b64encode(data).decode()}", len(data)) == data
