"""Whatever is killed at any moment: each line has one result, and it is the one that an undisturbed batch has."""

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from support.batches import chats, ended, line, results, submit, texts_of
from support.running.clients import CONFIGURED, sdk
from support.running.processes import kill_worker
from support.running.servers import SCRIPTED, Server, chat_body

LINES = 60
KILLS = 6
SEED = 7
KEY = {"x-api-key": CONFIGURED["api_key"]}


def launched(launch: Callable[..., Server], where: Path) -> Server:
    return launch(*SCRIPTED, "--max-concurrency", 4, env={"MLX_SERVER_DATA_DIR": str(where)})


def done(server: Server, batch: str) -> int:
    counts = server.get(f"/v1/batches/{batch}", headers=KEY).json()["request_counts"]
    return int(counts["completed"] + counts["failed"])


def test_batch_goes_on_after_kills_of_server_and_worker(launch: Callable[..., Server], tmp_path: Path) -> None:
    lot = random.Random(SEED)
    scripts = [{"text": f"line {n}", "tokens": 1, "first_token_s": lot.random() / 5} for n in range(LINES)]
    server = launched(launch, tmp_path)
    with sdk(server) as client:
        made = submit(client, chats(scripts))
    counted = 0
    for kill in range(KILLS):
        goal = min(LINES - 4, counted + lot.randrange(1, 2 * LINES // KILLS))
        server.wait_until(lambda server=server, goal=goal: done(server, made.id) >= goal)
        counted = done(server, made.id)
        if kill % 2:
            kill_worker(server)
        else:
            server.process.kill()
            server.process.wait()
            server = launched(launch, tmp_path)
            assert done(server, made.id) >= counted, "what has counted is kept"
    with sdk(server) as client:
        batch = ended(client, made.id)
        assert (batch.status, batch.error_file_id) == ("completed", None)
        assert batch.request_counts is not None
        assert batch.request_counts.completed == LINES
        assert texts_of(results(client, batch.output_file_id)) == {str(n): f"line {n}" for n in range(LINES)}


def test_kill_while_the_file_is_looked_through_loses_nothing(launch: Callable[..., Server], tmp_path: Path) -> None:
    server = launched(launch, tmp_path)
    with sdk(server) as client:
        made = submit(client, chats(["x"] * 3000))
    server.process.kill()
    server.process.wait()
    with sdk(launched(launch, tmp_path)) as client:
        batch = ended(client, made.id, timeout_s=120)
        assert batch.request_counts is not None
        assert batch.request_counts.completed == 3000


def test_line_that_kills_workers_is_an_error_and_the_others_have_answers(
    launch: Callable[..., Server], tmp_path: Path
) -> None:
    server = launched(launch, tmp_path)
    with sdk(server) as client:
        poison = line("poison", chat_body({"tokens": 1, "die_at": 1}, model="m"))
        batch = ended(client, submit(client, [*chats(["a", "b", "c"]), poison]).id, timeout_s=120)
        assert texts_of(results(client, batch.output_file_id)) == {"0": "a", "1": "b", "2": "c"}
        [failed] = results(client, batch.error_file_id)
        assert failed["response"]["body"]["error"]["code"] == "worker_lost"


def test_lines_that_run_beside_one_that_kills_workers_have_answers_and_the_model_stays(
    launch: Callable[..., Server], tmp_path: Path
) -> None:
    server = launched(launch, tmp_path)
    slow = [{"text": text, "tokens": 1, "first_token_s": 1} for text in ("a", "b", "c")]
    with sdk(server) as client:
        poison = line("poison", chat_body({"tokens": 1, "die_at": 1}, model="m"))
        batch = ended(client, submit(client, [*chats(slow), poison]).id, timeout_s=120)
        assert texts_of(results(client, batch.output_file_id)) == {"0": "a", "1": "b", "2": "c"}
        assert [one["custom_id"] for one in results(client, batch.error_file_id)] == ["poison"]
    assert "is given up" not in server.output()


def test_two_servers_with_one_data_directory_do_nothing_twice(launch: Callable[..., Server], tmp_path: Path) -> None:
    first, second = launched(launch, tmp_path), launched(launch, tmp_path)
    with sdk(second) as client:
        made = submit(client, chats([{"text": "x", "tokens": 1, "first_token_s": 0.1}] * 40))
        second.wait_until(lambda: done(second, made.id) > 0)
        first.process.kill()
        first.process.wait()
        batch = ended(client, made.id)
        assert len(texts_of(results(client, batch.output_file_id))) == 40


def test_stored_response_of_a_line_has_the_same_id_however_often_it_is_made(
    launch: Callable[..., Server], tmp_path: Path
) -> None:
    server = launched(launch, tmp_path)
    body = {"model": "m", "input": '{"text": "hi", "tokens": 1}', "store": True}
    with sdk(server) as client:
        made = submit(client, [line("a", body, "/v1/responses")], endpoint="/v1/responses")
        [found] = results(client, ended(client, made.id).output_file_id)
        response = client.responses.retrieve(found["response"]["body"]["id"])
        assert response.id == f"resp_{found['id'].removeprefix('batch_req_')}"


def test_batch_whose_window_ends_keeps_what_is_done_and_names_the_rest(
    launch: Callable[..., Server], tmp_path: Path
) -> None:
    server = launched(launch, tmp_path)
    slow = {"text": "slow", "tokens": 1, "first_token_s": 60}
    with sdk(server) as client:
        made = submit(client, chats([first := "a" * 100, slow, *[slow] * 700]), completion_window="1h")
        server.wait_until(lambda: done(server, made.id) == 1)
    server.process.kill()
    server.process.wait()
    with closing(sqlite3.connect(tmp_path / "files.sqlite3")) as database, database:
        database.execute("UPDATE batches SET expires = created")
    with sdk(launched(launch, tmp_path)) as client:
        batch = ended(client, made.id)
        assert batch.status == "expired"
        assert batch.request_counts is not None
        assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 701)
        assert texts_of(results(client, batch.output_file_id)) == {"0": first}
        unfinished = results(client, batch.error_file_id)
        assert {one["custom_id"] for one in unfinished} == {str(n) for n in range(1, 702)}
        assert {(one["error"]["code"], one["response"]) for one in unfinished} == {("batch_expired", None)}
