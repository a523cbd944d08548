"""OpenAI's SDK on `/v1/batches`: states, counts, results and errors by line, and who may see them."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai.types import Batch
from support.batches import CHAT, chats, ended, jsonl, line, results, submit, texts_of
from support.responses import strict
from support.running.clients import sdk
from support.running.servers import SCRIPTED, Server, chat_body, serving
from support.running.streams import open_stream


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(
        *SCRIPTED, "--max-concurrency", 2, "--queue-size", 4, "--api-key", "one", "--api-key", "two"
    ) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with sdk(server, api_key="one") as client:
        yield client


def test_every_line_has_its_answer(server: Server, client: openai.OpenAI) -> None:
    made = submit(client, chats([f"line {n}" for n in range(40)]), metadata={"job": "nightly"})
    strict(Batch, made.to_dict())
    assert (made.status, made.metadata, made.expires_at) == ("validating", {"job": "nightly"}, made.created_at + 86_400)
    batch = ended(client, made.id)
    strict(Batch, batch.to_dict())
    assert (batch.status, batch.error_file_id, batch.model) == ("completed", None, "m")
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (40, 40, 0)
    found = results(client, batch.output_file_id)
    assert texts_of(found) == {str(n): f"line {n}" for n in range(40)}
    assert found[0].keys() == {"id", "custom_id", "response", "error"}
    assert found[0]["response"]["status_code"] == 200
    assert batch.usage is not None
    assert batch.usage.output_tokens == sum(one["response"]["body"]["usage"]["completion_tokens"] for one in found)
    assert batch.output_file_id is not None
    output = client.files.retrieve(batch.output_file_id)
    assert (output.purpose, output.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    assert list((server.data_dir / "batches").glob("batch_*")) == [], "what was needed for it is gone"


def test_line_that_fails_is_in_the_error_file_and_the_others_go_on(client: openai.OpenAI) -> None:
    wrong = line("bad", chat_body("x", model="m", temperature=9))
    batch = ended(client, submit(client, [*chats(["a", "b"]), wrong]).id)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 1)
    assert texts_of(results(client, batch.output_file_id)) == {"0": "a", "1": "b"}
    [failed] = results(client, batch.error_file_id)
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("bad", 400)
    assert failed["response"]["body"]["error"]["param"] == "temperature"


def test_file_with_bad_lines_fails_with_an_error_for_each(client: openai.OpenAI) -> None:
    good = chats(["a"])[0]
    lines = [
        good,
        {**good, "custom_id": "1", "url": "/v1/embeddings"},
        {**good, "custom_id": "2", "method": "GET"},
        {**good, "custom_id": "3", "body": chat_body("x", model="m", stream=True)},
        {**good, "custom_id": "4", "body": chat_body("x", model="other")},
        {**good, "custom_id": "0"},
        {"method": "POST", "url": CHAT, "body": {}},
    ]
    batch = ended(client, submit(client, jsonl(lines) + b"\n{nonsense\n").id)
    assert batch.status == "failed"
    assert batch.failed_at is not None
    assert batch.errors is not None
    found = [(error.line, error.code, error.param) for error in batch.errors.data or []]
    assert found == [
        (2, "mismatched_endpoint", "url"),
        (3, "invalid_request", "method"),
        (4, "invalid_request", "body.stream"),
        (5, "mismatched_model", "body.model"),
        (6, "duplicate_custom_id", "custom_id"),
        (7, "invalid_request", "custom_id"),
        (9, "invalid_json_line", None),
    ]


def test_empty_file_fails(client: openai.OpenAI) -> None:
    batch = ended(client, submit(client, b"\n\n").id)
    assert batch.errors is not None
    assert [error.code for error in batch.errors.data or []] == ["empty_file"]


@pytest.mark.parametrize(
    ("change", "param"),
    [({"endpoint": "/v1/moderations"}, "endpoint"), ({"completion_window": "1m"}, "completion_window")],
    ids=["endpoint", "window"],
)
def test_what_no_batch_can_do_is_refused_by_name(client: openai.OpenAI, change: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        submit(client, chats(["a"]), **change)
    assert raised.value.param == param


def test_file_of_another_purpose_is_refused(client: openai.OpenAI) -> None:
    file = client.files.create(file=("a", b"x"), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="a file of purpose 'batch' is needed"):
        client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")


def test_batches_are_their_owners(server: Server, client: openai.OpenAI) -> None:
    made = [submit(client, chats(["a"])).id for _ in range(3)]
    assert [batch.id for batch in client.batches.list(limit=2)][:3] == made[::-1]
    with sdk(server, api_key="two") as other:
        assert list(other.batches.list()) == []
        for call in (other.batches.retrieve, other.batches.cancel):
            with pytest.raises(openai.NotFoundError, match="There is no batch"):
                call(made[0])
        file = client.batches.retrieve(made[0]).input_file_id
        with pytest.raises(openai.BadRequestError, match="`input_file_id`: there is no file"):
            other.batches.create(input_file_id=file, endpoint=CHAT, completion_window="24h")


def test_input_may_be_deleted_once_the_batch_is_made(client: openai.OpenAI) -> None:
    made = submit(client, chats(["a", "b"]))
    client.files.delete(made.input_file_id)
    assert texts_of(results(client, ended(client, made.id).output_file_id)) == {"0": "a", "1": "b"}


def test_cancel_keeps_what_is_done_and_frees_the_rows(server: Server, client: openai.OpenAI) -> None:
    slow = {"text": "slow", "tokens": 1, "first_token_s": 60}
    made = submit(client, chats([first := "a" * 100, slow]))
    server.wait_until(lambda: (counts := client.batches.retrieve(made.id).request_counts) and counts.completed == 1)
    server.wait_until(lambda: stats(server)["running_requests"] == 1)
    assert client.batches.cancel(made.id).status in ("cancelling", "cancelled")
    batch = ended(client, made.id)
    assert batch.status == "cancelled"
    assert texts_of(results(client, batch.output_file_id)) == {"0": first}
    server.wait_until(lambda: stats(server)["running_requests"] == 0)
    assert client.batches.cancel(made.id).status == "cancelled"
    done = ended(client, submit(client, chats(["a"])).id)
    with pytest.raises(openai.ConflictError, match="The batch is completed and can't be cancelled"):
        client.batches.cancel(done.id)


def test_lines_make_way_for_whoever_comes(server: Server, client: openai.OpenAI) -> None:
    slow = {"text": "slow", "tokens": 1, "first_token_s": 60}
    made = submit(client, chats([slow] * 50))
    server.wait_until(lambda: stats(server)["running_requests"] == 2)
    answer = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": '{"text": "now", "tokens": 1}'}], timeout=20
    )
    assert answer.choices[0].message.content == "now"
    assert client.batches.cancel(made.id).request_counts.completed == 0  # type: ignore[union-attr]
    ended(client, made.id)


def test_batches_take_turns(launch: Callable[..., Server]) -> None:
    """Where room is for one line at a time: each goes on as fast as the other, whichever was there first."""
    server = launch(*SCRIPTED, "--max-concurrency", 1, "--queue-size", 1)
    with sdk(server) as client:
        slow = {"text": "slow", "tokens": 1, "first_token_s": 0.05}
        made = [submit(client, chats([slow] * 400)).id for _ in range(2)]

        def now() -> list[Batch]:
            return [client.batches.retrieve(id_) for id_ in made]

        def completed() -> list[int]:
            return [one.request_counts.completed for one in now() if one.request_counts is not None]

        server.wait_until(lambda: all(one.status == "in_progress" for one in now()))
        before = completed()
        server.wait_until(lambda: sum(completed()) >= sum(before) + 30)
        assert min(after - earlier for after, earlier in zip(completed(), before, strict=True)) >= 10


def test_batch_goes_on_soon_after_an_overload_whatever_its_clients_were_told(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 1, "--queue-size", 0)
    with sdk(server) as client:
        with open_stream(server, chat_body({"tokens": 1000, "interval_s": 0.1})):
            told = [int(server.chat(f"client {number}").headers["retry-after"]) for number in range(20)]
            assert told[-1] > 60
            made = submit(client, chats(["a"]))
            server.wait_until(lambda: f"{made.id}-1" in server.output())
            assert server.stats()["refused"] == 20
        assert ended(client, made.id, timeout_s=5).status == "completed"


def stats(server: Server) -> dict[str, Any]:
    answer = server.get("/v1/queue/stats", headers={"x-api-key": "one"})
    return dict(json.loads(answer.content)["queue_stats"])


CHAT_ITEM = '{"text": "hi", "tokens": 1}'


@pytest.mark.parametrize(
    ("endpoint", "body", "field"),
    [
        ("/v1/completions", {"prompt": CHAT_ITEM}, "choices"),
        ("/v1/responses", {"input": CHAT_ITEM}, "output"),
        ("/v1/embeddings", {"input": "a"}, "data"),
        ("/v1/rerank", {"query": "a", "documents": ["b"]}, "results"),
        ("/rerank", {"query": "a", "documents": ["b"]}, "results"),
    ],
    ids=["completions", "responses", "embeddings", "rerank", "rerank at the root"],
)
def test_endpoint_is_served(client: openai.OpenAI, endpoint: str, body: Any, field: str) -> None:
    made = submit(client, [line("a", {**body, "model": "m"}, endpoint)], endpoint)
    [found] = results(client, ended(client, made.id).output_file_id)
    assert found["response"]["body"][field]
