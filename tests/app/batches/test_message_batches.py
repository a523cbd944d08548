"""Anthropic's SDK on `/v1/messages/batches`: its types read every answer, and each request has one result."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.types.messages import MessageBatch
from support.responses import strict
from support.running.servers import SCRIPTED, Server, serving, wait_for

KEY = {"x-api-key": "not-needed"}
SLOW = {"text": "slow", "tokens": 1, "first_token_s": 60}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(*SCRIPTED, "--max-concurrency", 2) as server:
        yield server


def client_of(server: Server, key: str = "not-needed") -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.root, api_key=key, max_retries=0)


@pytest.fixture
def client(server: Server) -> Iterator[anthropic.Anthropic]:
    with client_of(server) as client:
        yield client


def asked(custom_id: str, script: Any, **more: Any) -> Any:
    text = json.dumps({"text": script, "tokens": 1} if isinstance(script, str) else script)
    params = {"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": text}], **more}
    return {"custom_id": custom_id, "params": params}


def ended(client: anthropic.Anthropic, id_: str) -> MessageBatch:
    wait_for(lambda: client.messages.batches.retrieve(id_).processing_status == "ended")
    return client.messages.batches.retrieve(id_)


def test_each_request_has_its_message(server: Server, client: anthropic.Anthropic) -> None:
    made = client.messages.batches.create(requests=[asked(f"r{n}", f"line {n}") for n in range(20)])
    assert (made.processing_status, made.request_counts.processing, made.results_url) == ("in_progress", 20, None)
    assert (made.expires_at - made.created_at).days == 1
    batch = ended(client, made.id)
    assert batch.request_counts.succeeded == 20
    found = {one.custom_id: one.result for one in client.messages.batches.results(made.id)}
    assert {key: result.message.content[0].text for key, result in found.items()} == {  # type: ignore[union-attr]
        f"r{n}": f"line {n}" for n in range(20)
    }
    strict(
        MessageBatch,
        MessageBatch.model_validate(server.get(f"/v1/messages/batches/{made.id}", headers=KEY).json()).model_dump(),
    )
    assert client.messages.batches.delete(made.id).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.retrieve(made.id)
    assert list((server.data_dir / "batches").glob("msgbatch_*")) == []


def test_request_that_fails_has_an_error(client: anthropic.Anthropic) -> None:
    made = client.messages.batches.create(requests=[asked("good", "a"), asked("bad", "b", temperature=9)])
    assert ended(client, made.id).request_counts.errored == 1
    [failed] = [one for one in client.messages.batches.results(made.id) if one.custom_id == "bad"]
    assert failed.result.type == "errored"
    assert failed.result.error.error.type == "invalid_request_error"
    assert "temperature" in failed.result.error.error.message


def test_body_in_many_lines_is_as_good_as_one_in_one(server: Server, client: anthropic.Anthropic) -> None:
    body = json.dumps({"requests": [asked(name, f"line {name}") for name in ("a", "b")]}, indent=2)
    made = server.post("/v1/messages/batches", body.replace("\n", "\r\n").encode(), headers=KEY)
    assert made.status_code == 200, made.text
    assert ended(client, made.json()["id"]).request_counts.succeeded == 2
    found = server.get(f"/v1/messages/batches/{made.json()['id']}/results", headers=KEY)
    assert {json.loads(line)["custom_id"] for line in found.text.splitlines()} == {"a", "b"}


def test_batch_of_which_nothing_came_has_no_results(server: Server, client: anthropic.Anthropic) -> None:
    made = client.messages.batches.create(requests=[asked("a", "x")])
    ended(client, made.id)
    with closing(sqlite3.connect(server.data_dir / "files.sqlite3")) as database, database:
        database.execute("UPDATE batches SET status = 'failed', output_bytes = 0 WHERE id = ?", [made.id])
    (server.data_dir / "batches" / made.id / "output.jsonl").unlink()
    assert list(client.messages.batches.results(made.id)) == []


def test_results_are_where_the_request_found_the_server(server: Server, client: anthropic.Anthropic) -> None:
    made = client.messages.batches.create(requests=[asked("a", "x")])
    ended(client, made.id)
    proxied = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "h.example", **KEY}
    told = server.get(f"/v1/messages/batches/{made.id}", headers=proxied).json()
    assert told["results_url"] == f"{server.root}/v1/messages/batches/{made.id}/results"


def test_results_are_where_clients_find_the_server(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--public-url", "https://h.example/base/")
    with client_of(server) as client:
        made = client.messages.batches.create(requests=[asked("a", "x")])
        found = ended(client, made.id).results_url
        assert found == f"https://h.example/base/v1/messages/batches/{made.id}/results"


def test_canceled_batch_says_so_of_what_was_not_done(server: Server, client: anthropic.Anthropic) -> None:
    made = client.messages.batches.create(
        requests=[asked("first", "a" * 100), *(asked(f"{n}", SLOW) for n in range(5))]
    )
    server.wait_stats(running_requests=2, waiting_requests=3)
    with pytest.raises(anthropic.BadRequestError, match="has not ended"):
        client.messages.batches.delete(made.id)
    assert client.messages.batches.cancel(made.id).cancel_initiated_at is not None
    batch = ended(client, made.id)
    assert (batch.request_counts.canceled, batch.request_counts.succeeded) == (5, 1)
    found = {one.custom_id: one.result.type for one in client.messages.batches.results(made.id)}
    assert found == {"first": "succeeded", **{f"{n}": "canceled" for n in range(5)}}
    server.wait_stats(running_requests=0)


def test_pages_go_forth_and_back(client: anthropic.Anthropic) -> None:
    made = [client.messages.batches.create(requests=[asked("a", "x")]).id for _ in range(3)][::-1]
    assert [batch.id for batch in client.messages.batches.list(limit=2)][:3] == made
    back = client.messages.batches.list(before_id=made[2], limit=1)
    assert [batch.id for batch in back.data] == [made[1]]


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ([], "`requests`"),
        ([asked("a", "x"), asked("a", "y")], r"`requests\[1\]\.custom_id`: 'a' is that of an earlier request"),
        ([asked("a b", "x")], r"`requests\[0\]\.custom_id`"),
        ([asked("a", "x", stream=True)], r"`requests\[0\]\.params\.stream`"),
        ([asked("a", "x", background=True)], r"`requests\[0\]\.params\.background`"),
    ],
    ids=["none", "twice", "id", "stream", "background"],
)
def test_bad_requests_are_refused_by_name(client: anthropic.Anthropic, requests: Any, words: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match=words):
        client.messages.batches.create(requests=requests)


def test_batch_is_its_owners_and_goes_on_after_a_kill(launch: Callable[..., Server], tmp_path: Path) -> None:
    where = {"MLX_SERVER_DATA_DIR": str(tmp_path), "MLX_SERVER_API_KEY": "not-needed another"}
    server = launch(*SCRIPTED, env=where, wait=False)
    server.wait_listening()
    with client_of(server) as client:
        made = client.messages.batches.create(requests=[asked(f"{n}", f"{n}") for n in range(300)])
    server.process.kill()
    server.process.wait()
    server = launch(*SCRIPTED, env=where, wait=False)
    server.wait_listening()
    with client_of(server, "another") as other, pytest.raises(anthropic.NotFoundError):
        other.messages.batches.retrieve(made.id)
    with client_of(server) as client:
        assert ended(client, made.id).request_counts.succeeded == 300
        assert len({one.custom_id for one in client.messages.batches.results(made.id)}) == 300


def test_request_for_a_model_that_nobody_knows_has_an_error(launch: Callable[..., Server]) -> None:
    server = launch("--model-type", "scripted", "--model", "a=scripted", "--model", "b=scripted")
    with client_of(server) as client:
        made = client.messages.batches.create(
            requests=[asked("bad", "x", model="nobody"), *(asked(name, "x", model=name) for name in ("a", "b"))]
        )
        counts = ended(client, made.id).request_counts
        assert (counts.succeeded, counts.errored) == (2, 1)
        [failed] = [one for one in client.messages.batches.results(made.id) if one.custom_id == "bad"]
        assert failed.result.type == "errored"
        assert failed.result.error.error.type == "not_found_error"
