"""A batch's file of any bytes: each line is a request or an error that names it, and all lines are looked at."""

import io

from hypothesis import example, given
from hypothesis import strategies as st

from mlx_server.app.batches.input_lines import InputLines
from mlx_server.app.batches.rows import PendingLine

ENDPOINT = "/v1/chat/completions"
GOOD = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]}}'
MOST_BYTES = 4000


def read(content: bytes) -> None:
    """Read it as a file: as many things are said as lines hold something, until one is too long."""
    lines = InputLines(io.BytesIO(content), ENDPOINT, MOST_BYTES, mixed=True)
    told = lines.take(1000)
    held = [raw for raw in io.BytesIO(content) if raw.strip()]
    if all(len(raw) <= MOST_BYTES for raw in held):
        assert len(told) == max(1, len(held))
    for one in told:
        if isinstance(one, PendingLine):
            assert content[one.at : one.at + one.size].strip()
        else:
            assert one.code
            assert one.message


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
@example(b"[" * 3000)
@example(b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":' + b"[" * 3000)
@example(b'{"custom_id":"\\ud800"}')
def test_any_bytes_are_lines_or_errors(content: bytes) -> None:
    read(content)


@given(st.integers(0, len(GOOD)), st.binary(max_size=5), st.integers(0, 5), st.binary(max_size=20))
def test_a_line_that_is_nearly_right_is_a_request_or_an_error(at: int, new: bytes, dropped: int, rest: bytes) -> None:
    read(GOOD + b"\n" + GOOD[:at] + new + GOOD[at + dropped :] + b"\n" + rest)
