"""A request that is sent again joins its answer, also in the middle, as long as it is kept; another one never does."""

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx
import pytest
from support.running.clients import sdk
from support.running.processes import kill_worker
from support.running.servers import SCRIPTED, Server, chat_body, serving

CHAT = "/v1/chat/completions"
RESUME_S = 1.0
TOKENS = 30
STREAM: dict[str, Any] = {"tokens": TOKENS, "interval_s": 0.02}
HELD: dict[str, Any] = {"first_token_s": 60}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(
        *SCRIPTED, "--max-concurrency", 4, "--resume-seconds", RESUME_S, "--default-max-tokens", 1000
    ) as server:
        yield server


@pytest.fixture
def key() -> str:
    return str(uuid.uuid4())


def post(server: Server, key: str, script: Any, last: int | None = None, **more: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key} | ({} if last is None else {"Last-Event-ID": str(last)})
    return server.post(CHAT, chat_body(script, **more), headers=headers)


def frames(answer: httpx.Response) -> list[tuple[int, str]]:
    """The id and the data of each event."""
    assert answer.status_code == 200, answer.text
    parts = [part.split("\n") for part in answer.text.split("\n\n")[:-1]]
    return [(int(id_.removeprefix("id: ")), data) for id_, data in parts]


def leave_after(server: Server, key: str, script: Any, events: int) -> list[str]:
    """The first lines of a stream whose client then leaves."""
    body, headers = chat_body(script, stream=True), {"Idempotency-Key": key}
    with server.http.stream("POST", f"{server.root}{CHAT}", json=body, headers=headers) as answer:
        lines = answer.iter_lines()
        return [next(lines) for _ in range(3 * events)]


def test_whole_answer_is_had_again(server: Server, key: str) -> None:
    first, again = post(server, key, {"tokens": 3}), post(server, key, {"tokens": 3})
    assert first.status_code == 200
    assert again.json() == first.json(), "its id too: it was made once"
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert post(server, str(uuid.uuid4()), {"tokens": 3}).json()["id"] != first.json()["id"]
    assert "joined=1" in server.output()


def test_dropped_stream_goes_on_after_the_last_event(server: Server, key: str) -> None:
    seen = leave_after(server, key, STREAM, 5)
    rest = frames(post(server, key, STREAM, last=5, stream=True))
    whole = frames(post(server, key, STREAM, stream=True))
    assert [number for number, _ in whole] == list(range(1, len(whole) + 1))
    assert seen == [line for number, data in whole[:5] for line in (f"id: {number}", data, "")]
    assert rest == whole[5:]
    assert whole[-1][1] == "data: [DONE]"
    assert sum('"content":"token "' in data for _, data in whole) == TOKENS


def test_stream_is_joined_while_it_is_made(server: Server, key: str) -> None:
    """And goes on for whoever came second when the first has left."""
    leave_after(server, key, STREAM, 2)
    server.wait_stats(active_requests=1)
    joined = frames(post(server, key, STREAM, stream=True))
    assert sum('"content":"token "' in data for _, data in joined) == TOKENS


def test_answer_without_a_client_is_given_up_in_time(server: Server, key: str) -> None:
    leave_after(server, key, {"tokens": 1000, "interval_s": 0.05}, 2)
    time.sleep(RESUME_S / 2)
    assert server.stats()["active_requests"] == 1
    server.wait_stats(active_requests=0)
    gone = post(server, key, {"tokens": 1000, "interval_s": 0.05}, last=2, stream=True)
    assert gone.status_code == 400
    assert gone.json()["error"]["code"] == "answer_not_kept"
    assert gone.json()["error"]["param"] == "Last-Event-ID"


def test_complete_answer_is_kept_for_its_time(server: Server, key: str) -> None:
    first = post(server, key, {"tokens": 1}).json()["id"]
    time.sleep(RESUME_S / 2)
    assert post(server, key, {"tokens": 1}).json()["id"] == first
    time.sleep(1.5 * RESUME_S)
    assert post(server, key, {"tokens": 1}).json()["id"] != first


def test_failure_is_tried_again(server: Server, key: str) -> None:
    lost = {"tokens": 3, "raise_at": 1}
    assert post(server, key, lost).status_code == 500
    again = post(server, key, lost)
    assert again.status_code == 500
    assert "idempotent-replayed" not in again.headers


@pytest.mark.parametrize(
    ("headers", "param"),
    [
        pytest.param({"Last-Event-ID": "1"}, "Last-Event-ID", id="no-key"),
        pytest.param({"Idempotency-Key": "k", "Last-Event-ID": "x"}, "Last-Event-ID", id="no-number"),
        pytest.param({"Idempotency-Key": "k", "Last-Event-ID": "7"}, "Last-Event-ID", id="unknown-answer"),
        pytest.param({"Idempotency-Key": "a b"}, "Idempotency-Key", id="space"),
        pytest.param({"Idempotency-Key": "k" * 256}, "Idempotency-Key", id="long"),
    ],
)
def test_bad_headers_are_refused(server: Server, headers: dict[str, str], param: str) -> None:
    answer = server.post(CHAT, chat_body({"tokens": 1}), headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_key_of_another_request_is_refused(server: Server, key: str) -> None:
    assert post(server, key, {"tokens": 1}).status_code == 200
    refused = post(server, key, {"tokens": 2})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "idempotency_key_reused"
    ahead = post(server, key, {"tokens": 1}, last=99)
    assert ahead.json()["error"]["code"] == "answer_not_kept"


def test_owners_have_answers_of_their_own(launch: Callable[..., Server], key: str) -> None:
    server = launch(*SCRIPTED, "--api-key", "one", "--api-key", "two", wait=False)
    server.http.headers["x-api-key"] = "one"
    server.wait_ready()
    ids = set()
    for api_key in ("one", "two"):
        headers = {"Idempotency-Key": key, "x-api-key": api_key}
        ids.add(server.post(CHAT, chat_body({"tokens": 1}), headers=headers).json()["id"])
    assert len(ids) == 2


def test_openai_sdk_tries_again_and_joins(server: Server, key: str) -> None:
    """Its first try times out while the answer is made; the second gets that answer."""
    slow = chat_body({"tokens": 1, "first_token_s": 1.2})
    with sdk(server, max_retries=3, timeout=0.5) as client:
        answers = client.chat.completions.with_raw_response
        raw = answers.create(**slow, model="scripted", extra_headers={"Idempotency-Key": key})
    assert raw.retries_taken >= 1
    assert raw.headers["idempotent-replayed"] == "true"
    assert raw.parse().choices[0].message.content == "token "


def test_sdks_read_streams_with_ids(server: Server, key: str) -> None:
    headers = {"Idempotency-Key": key}
    with sdk(server) as client:
        chunks = client.chat.completions.create(
            **chat_body({"tokens": 3}), model="scripted", stream=True, extra_headers=headers
        )
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "token token token "
        events = client.responses.create(model="scripted", input='{"tokens": 3}', stream=True, extra_headers=headers)
        texts = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert "".join(texts) == "token token token "
    with anthropic.Anthropic(base_url=server.root, api_key="x") as client:
        body = chat_body({"tokens": 3}, model="scripted", max_tokens=9)
        with client.messages.stream(**body, extra_headers=headers) as stream:
            assert stream.get_final_text() == "token token token "


def test_answer_is_joined_after_its_worker_died(server: Server, key: str) -> None:
    """It had said nothing, so it starts over, for whoever asks by then."""
    script = {"tokens": 2, "first_token_s": 0.8}
    with pytest.raises(httpx.ReadTimeout):
        server.http.post(f"{server.root}{CHAT}", json=chat_body(script), headers={"Idempotency-Key": key}, timeout=0.3)
    kill_worker(server)
    answer = post(server, key, script)
    assert answer.status_code == 200
    assert answer.headers["idempotent-replayed"] == "true"


def test_answers_without_clients_end_with_the_server() -> None:
    with serving(*SCRIPTED, "--drain-timeout", 1) as server:
        with pytest.raises(httpx.ReadTimeout):
            server.http.post(
                f"{server.root}{CHAT}", json=chat_body(HELD), headers={"Idempotency-Key": "k"}, timeout=0.3
            )
        assert server.stop() == 0
        assert "Traceback" not in server.output()
