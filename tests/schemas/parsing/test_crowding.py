import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.openai import chat as openai_chat
from mlx_server.schemas.openai.common import HARMLESS
from mlx_server.schemas.parsing.crowding import refuse_crowded
from mlx_server.schemas.parsing.parse import parse

MEGABYTES_16 = 16 << 20


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"[" * 100_001, "100000 objects and lists"),
        (b"{" * 60_000 + b"[" * 60_000, "100000 objects and lists"),
        (b"{" + b'"a":1,' * 300_001, "300000 fields in objects"),
        (b"[" + b"1," * 1_100_001, "1100000 items and fields"),
        (b'[","' * 3_000_000, "1400000 strings"),
    ],
    ids=["lists", "both", "fields", "items", "strings"],
)
def test_a_body_with_too_many_values_is_refused(body: bytes, what: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^The body holds more than {what}.$") as caught:
        refuse_crowded(body)
    assert caught.value.param is None


@pytest.mark.parametrize(
    "text",
    ["[{,:" * 1_200_000, '"[' * 500_000, "\\" * 1000 + '{"' * 200_000, '\\"[\\\\' * 200_000, "}]" * 2_000_000],
    ids=["marks", "quotes", "backslashes", "both", "closing"],
)
def test_marks_inside_strings_are_no_values(text: str) -> None:
    refuse_crowded(json.dumps({"messages": [{"role": "user", "content": text}], "user": text}).encode())


def test_the_most_that_is_allowed_is_accepted() -> None:
    refuse_crowded(b"[" * 100_000)
    refuse_crowded(b'"a":' * 300_000)
    refuse_crowded(b"1," * 1_100_000)


LARGE = {
    "brackets": b"[" * MEGABYTES_16,
    "objects": b'{"a":' * (MEGABYTES_16 // 5),
    "lists of lists": b'{"metadata":{"a":[' + b"[]," * (MEGABYTES_16 // 3) + b"[]]}}",
    "numbers": b'{"metadata":{"a":[' + b"1," * (MEGABYTES_16 // 2) + b"1]}}",
    "strings": b'{"metadata":{"a":[' + b'"",' * (MEGABYTES_16 // 3) + b'""]}}',
    "escaped quotes": b'{"user":"' + rb"\"" * (MEGABYTES_16 // 2),
    "backslashes": b'{"user":"' + b"\\" * MEGABYTES_16,
    "quotes": b'"' * MEGABYTES_16,
    "digits": b'{"seed":' + b"9" * MEGABYTES_16 + b"}",
    "fields": b'{"messages":[{"role":"user","content":"","x' + b'":1,"y' * (MEGABYTES_16 // 6) + b'":1}]}',
}


def cpu_s(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


@pytest.fixture(scope="module")
def much_s() -> float:
    """CPU time that a body of 16 MiB may cost: what `json` takes for one full of numbers, 0.9 s on a usual machine."""
    return cpu_s(lambda: json.loads(LARGE["numbers"]))


@pytest.mark.parametrize("body", LARGE.values(), ids=LARGE)
def test_a_large_body_is_refused_in_no_time(body: bytes, much_s: float) -> None:
    def refused() -> None:
        with pytest.raises(InvalidRequest):
            parse(body, openai_chat.decoder, HARMLESS)

    # Some 0.2 of it at most; decoding the worst of them took 1.7.
    assert cpu_s(refused) < much_s


def test_a_large_conversation_is_no_burden(much_s: float) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "[x] = {'a': 1}, " * 100}], "foo": 1}
    body = json.dumps({"messages": [message] * 10_000}).encode()
    assert len(body) > 15 << 20
    answers = []
    assert cpu_s(lambda: answers.append(parse(body, openai_chat.decoder, HARMLESS))) < much_s
    given, unknown = answers[0]
    assert len(given.messages) == 10_000
    assert unknown[:2] == ["messages[0].foo", "messages[1].foo"]
