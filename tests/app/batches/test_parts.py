"""What decides about a batch's lines: how they are read, in which order they stand, and how many run at a time."""

import io
import json
from datetime import time

import pytest

from mlx_server.app.batches.calls import MOST_ATTEMPTS, LineAnswer
from mlx_server.app.batches.input_lines import InputLines
from mlx_server.app.batches.order import beginning_of
from mlx_server.app.batches.results import tokens_of
from mlx_server.app.batches.room import REST_IN_HOURS_S, REST_S, most_at_once, rest_s
from mlx_server.app.batches.rows import PendingLine
from mlx_server.app.config.hours import parse_hours
from mlx_server.schemas.openai.stored.batches import BatchError, window_s

CHAT = "/v1/chat/completions"


def read(text: str, most_bytes: int = 1000, *, mixed: bool = False) -> list[PendingLine | BatchError]:
    return InputLines(io.BytesIO(text.encode()), CHAT, most_bytes, mixed=mixed).take(1000)


def request(custom_id: str, **body: object) -> str:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}) + "\n"


def test_lines_are_found_again_by_their_places() -> None:
    text = request("a", model="m") + "\n" + request("ü", model="m")
    found = read(text)
    assert [(one.line, one.custom_id) for one in found if isinstance(one, PendingLine)] == [(1, "a"), (3, "ü")]
    for one in found:
        assert isinstance(one, PendingLine)
        assert json.loads(text.encode()[one.at : one.at + one.size])["custom_id"] == one.custom_id


def test_line_too_long_ends_the_reading() -> None:
    [first, second] = read(request("a") + request("b" * 2000) + request("c"))
    assert isinstance(first, PendingLine)
    assert second == BatchError("line_too_long", "A line may have 1000 bytes.", 2)


def test_several_models_are_only_for_those_who_may() -> None:
    text = request("a", model="m") + request("b", model="n")
    assert [type(one) for one in read(text)] == [PendingLine, BatchError]
    assert [type(one) for one in read(text, mixed=True)] == [PendingLine, PendingLine]


def test_model_is_that_of_the_first_line_that_is_a_request() -> None:
    found = read("nonsense\n" + request("a", model="m") + request("b", model="m"))
    assert [type(one) for one in found] == [BatchError, PendingLine, PendingLine]


def test_prompts_that_begin_alike_lie_side_by_side() -> None:
    shared = b"s" * 3000
    prompts = {b"x" * 3000: "alone", shared + b"1" * 9000: "1", b"short": "short", shared + b"2" * 9000: "2"}
    order = [prompts[prompt] for prompt in sorted(prompts, key=beginning_of)]
    assert abs(order.index("1") - order.index("2")) == 1
    assert order[0] == "short"
    assert beginning_of(shared + b"1" * 9000)[:16] == beginning_of(shared + b"2" * 9000)[:16] == beginning_of(shared)


@pytest.mark.parametrize(
    ("rows", "queue_size", "most"),
    [(8, 100, 12), (8, 8, 12), (8, 1, 9), (8, 0, 8), (1, 0, 1), (256, 100, 260)],
)
def test_some_lines_wait_beside_those_that_run(rows: int, queue_size: int, most: int) -> None:
    assert most_at_once(rows, queue_size) == most
    assert most <= rows + queue_size


@pytest.mark.parametrize(
    ("hours", "now", "rest"),
    [
        (None, "12:00", REST_S),
        ("22:00-06:00", "21:59", None),
        ("22:00-06:00", "22:00", REST_IN_HOURS_S),
        ("22:00-06:00", "05:59", REST_IN_HOURS_S),
        ("22:00-06:00", "06:00", None),
        ("1:30-2:00", "01:45", REST_IN_HOURS_S),
        ("1:30-2:00", "02:00", None),
        ("00:00-00:00", "12:00", REST_IN_HOURS_S),
    ],
)
def test_lines_run_at_the_hours_that_are_named(hours: str | None, now: str, rest: float | None) -> None:
    assert rest_s(None if hours is None else parse_hours(hours), time.fromisoformat(now)) == rest


@pytest.mark.parametrize(
    ("status", "ran", "blames", "again"),
    [
        (200, True, False, False),
        (400, False, False, False),
        (429, False, False, True),
        (503, False, False, True),
        (504, False, False, True),
        (504, True, True, True),
        (502, True, True, True),
        (500, True, True, True),
    ],
)
def test_what_is_no_answer_is_asked_for_again(status: int, ran: bool, blames: bool, again: bool) -> None:
    answer = LineAnswer(status, b"", None, ran)
    assert answer.blames == blames
    assert answer.shared == (status == 502)
    assert (answer.again_after_s(1) is not None) == again
    assert (answer.again_after_s(MOST_ATTEMPTS) is not None) == (again and status in (429, 503))


def test_tokens_are_read_in_the_words_of_any_api() -> None:
    chat = {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}}
    response = {"input_tokens": 5, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 1}}
    message = {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 4}
    found = [tokens_of(json.dumps({"usage": usage}).encode()) for usage in (chat, response, message)]
    assert found == [(5, 3, 2, 0), (5, 0, 2, 1), (5, 4, 2, 0)]
    assert tokens_of(b"{}") == tokens_of(b"nothing") == (0, 0, 0, 0)


def test_windows_are_hours_and_days() -> None:
    assert [window_s(given) for given in ("1h", "24h", "30d")] == [3600, 86_400, 30 * 86_400]
