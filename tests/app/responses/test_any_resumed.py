"""Any `Idempotency-Key`, `Last-Event-ID` and body: an answer, or a refusal that names the header."""

import contextlib

from hypothesis import example, given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from mlx_server.app.routes.resumable import LAST, fingerprint_of, last_event
from mlx_server.schemas.internal.errors import InvalidRequest


@given(st.binary(max_size=20) | st.from_regex(rb"[ +-]?[0-9]{1,14}", fullmatch=True))
@example("\u0663".encode())
@example(b"1_0")
def test_an_event_is_a_number_or_refused(given_: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        found = last_event(Headers(raw=[(LAST.lower().encode(), given_)]))
        assert found is not None
        assert 0 <= found < 10**12


@given(st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
@example(b"[" * 2000)
@example(b'"\xff"')
@example(b'"\\ud800"')
@example(b"1" * 5000)
def test_any_body_has_a_fingerprint(body: bytes) -> None:
    assert len(fingerprint_of(body)) == 32
