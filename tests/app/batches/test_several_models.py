"""A batch for a model that is not loaded: it waits for memory that nobody uses, and for its hours."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import openai
from support.batches import ended, line, results, submit, texts_of
from support.running.clients import sdk
from support.running.servers import Server, chat_body

ONE_AT_A_TIME = ("--model-type", "scripted", "--model", "a=scripted", "--model", "b=scripted", "--max-models", 1)


def loaded(server: Server) -> list[str]:
    return [model["name"] for model in server.get("/v1/models").json()["models"] if model["status"] == "loaded"]


def waiting_for(client: openai.OpenAI, id_: str) -> str | None:
    """Why no line of a batch runs: a field that the SDK doesn't know, and keeps."""
    return client.batches.retrieve(id_).model_dump()["waiting_for"]  # type: ignore[no-any-return]


def ended_at(client: openai.OpenAI, id_: str) -> int | None:
    return client.batches.retrieve(id_).completed_at


def ask(client: openai.OpenAI, model: str, script: str) -> str | None:
    message = {"role": "user", "content": script}
    answer = client.chat.completions.create(model=model, messages=[message], timeout=30)  # type: ignore[list-item]
    return answer.choices[0].message.content


def test_batch_waits_for_a_model_in_use_and_gives_its_memory_back(launch: Callable[..., Server]) -> None:
    server = launch(*ONE_AT_A_TIME, "--batch-hours", "00:00-00:00")
    scripts = [{"text": "one", "tokens": 1}, {"text": "two", "tokens": 1, "first_token_s": 3}]
    lines = [line(str(number), chat_body(script, model="b")) for number, script in enumerate(scripts)]
    with sdk(server) as client, ThreadPoolExecutor(1) as thread:
        long = thread.submit(ask, client, "a", '{"text": "long", "tokens": 1, "first_token_s": 6}')
        server.wait_stats(running_requests=1)
        made = submit(client, lines)
        assert long.result() == "long"
        assert loaded(server) == ["a"], "it was not displaced while it was in use"
        server.wait_until(lambda: loaded(server) == ["b"])
        assert ask(client, "a", '{"text": "now", "tokens": 1}') == "now"
        assert loaded(server) == ["a"]
        assert client.batches.retrieve(made.id).status == "in_progress"
        batch = ended(client, made.id)
        assert texts_of(results(client, batch.output_file_id)) == {"0": "one", "1": "two"}


def test_batch_displaces_no_model_that_was_used_lately(launch: Callable[..., Server]) -> None:
    server = launch(*ONE_AT_A_TIME)
    with sdk(server) as client:
        made = submit(client, [line("0", chat_body({"text": "x", "tokens": 1}, model="b"))])
        own = submit(client, [line("0", chat_body({"text": "x", "tokens": 1}, model="a"))])
        assert ended(client, own.id).status == "completed"
        assert loaded(server) == ["a"]
        server.wait_until(lambda: waiting_for(client, made.id) == "model")
        server.http.post(f"{server.root}/v1/models/a/unload")
        assert ended(client, made.id).status == "completed"


def test_batch_waits_for_a_model_that_only_people_load(launch: Callable[..., Server]) -> None:
    server = launch("--model-type", "scripted", "--model", "a=scripted", "--no-auto-load", "--max-concurrency", 2)
    server.post("/v1/models/a/load", b"")
    server.wait_until(lambda: loaded(server) == ["a"])
    script = {"text": "x", "tokens": 1, "first_token_s": 1}
    lines = [line(str(number), chat_body(script, model="a")) for number in range(8)]
    with sdk(server) as client:
        begun = submit(client, lines)
        server.wait_stats(running_requests=2)
        server.post("/v1/models/a/unload", b"")
        server.wait_stats(running_requests=0, waiting_requests=0)
        late = submit(client, lines)
        server.wait_until(lambda: waiting_for(client, late.id) == "model" or ended_at(client, late.id))
        assert ended_at(client, late.id) is None
        server.wait_until(lambda: waiting_for(client, begun.id) == "model")
        assert loaded(server) == []
        server.post("/v1/models/a/load", b"")
        for made in (begun, late):
            batch = ended(client, made.id)
            assert len(texts_of(results(client, batch.output_file_id))) == 8


def test_batch_waits_for_its_hours(launch: Callable[..., Server], tmp_path: Path) -> None:
    now = datetime.now(UTC).astimezone()
    file = tmp_path / "server.toml"
    models = "[models.m]\npath = 'scripted'\ntype = 'scripted'\n"
    begin, end = (now + timedelta(hours=hours) for hours in (3, 4))
    file.write_text(f"[server]\nbatch_hours = '{begin:%H:%M}-{end:%H:%M}'\n{models}")
    server = launch("--config", file)
    with sdk(server) as client:
        made = submit(client, [line("0", chat_body({"text": "x", "tokens": 1}, model="m"))])
        server.wait_until(lambda: waiting_for(client, made.id) == "hours")
        assert ask(client, "m", '{"text": "now", "tokens": 1}') == "now"
        counts = client.batches.retrieve(made.id).request_counts
        assert counts is not None
        assert counts.completed == 0
        file.write_text(models)
        server.process.send_signal(signal.SIGHUP)
        assert ended(client, made.id).status == "completed"
        assert waiting_for(client, made.id) is None


def test_batch_for_a_model_that_nobody_knows_fails_at_once(launch: Callable[..., Server]) -> None:
    server = launch(*ONE_AT_A_TIME)
    with sdk(server) as client:
        batch = ended(client, submit(client, [line("0", chat_body("x", model="nobody"))]).id)
        assert (batch.status, batch.model) == ("failed", "nobody")
        assert batch.errors is not None
        assert [(one.code, one.param) for one in batch.errors.data or []] == [("model_not_found", "body.model")]


def test_batch_waits_for_a_model_that_is_missing_for_a_moment(launch: Callable[..., Server], tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    other, own = (f"[models.{name}]\npath = 'scripted'\ntype = 'scripted'\n" for name in ("other", "own"))
    file.write_text(other + own)
    server = launch("--config", file, "--max-concurrency", 1)
    script = {"text": "x", "tokens": 1, "first_token_s": 1}
    with sdk(server) as client:
        made = submit(client, [line(str(number), chat_body(script, model="own")) for number in range(8)])
        server.wait_stats(running_requests=1)
        file.write_text(other)
        server.process.send_signal(signal.SIGHUP)
        server.wait_until(lambda: waiting_for(client, made.id) == "model" or ended_at(client, made.id))
        assert ended_at(client, made.id) is None
        file.write_text(other + own)
        server.process.send_signal(signal.SIGHUP)
        batch = ended(client, made.id)
        assert (batch.status, batch.error_file_id) == ("completed", None)
        assert len(texts_of(results(client, batch.output_file_id))) == 8


def test_lines_that_name_no_model_have_all_rows_of_the_only_one(launch: Callable[..., Server], tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("[models.m]\npath = 'scripted'\ntype = 'scripted'\nmax_concurrency = 4\n")
    server = launch("--config", file)
    body = chat_body({"text": "x", "tokens": 1, "first_token_s": 2})
    with sdk(server) as client:
        made = submit(client, [line(str(number), body) for number in range(8)])
        server.wait_stats(running_requests=4)
        assert ended(client, made.id).status == "completed"
