"""`mlx-server batch`, as a real command on a real server: files made, run, watched, left and looked after."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest
from rich.console import Console
from support.batches import chats, jsonl
from support.inputs.command_lines import command_lines
from support.running.servers import ROOT, SCRIPTED, Server, serving, wait_for

from mlx_server.app.cli.batch_cli import patiently
from mlx_server.app.connect.batch_files import BadFile, chat_body, filled, rows_of, write_requests
from mlx_server.app.connect.batches import BatchState, Counts, NotNow, Usage
from mlx_server.app.connect.running_server import NoServer
from mlx_server.app.terminal.batch_display import BatchDisplay, line_of

COMMAND = [sys.executable, "-m", "mlx_server.app", "batch"]
Batch = Callable[..., subprocess.CompletedProcess[str]]
SLOW = {"text": "slow", "tokens": 1, "first_token_s": 60}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(*SCRIPTED) as server:
        yield server


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    """`mlx-server batch` with these words; `server` is told by --url."""
    with command_lines() as lines:

        def run(*arguments: object, server: Server | None = None) -> subprocess.CompletedProcess[str]:
            return lines.run("batch", *arguments, *(("--url", server.root) if server else ()))

        yield run


def answers(file: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return {one["custom_id"]: one["response"]["body"] for one in lines}


def test_table_becomes_requests_and_requests_become_results(batch: Batch, server: Server, tmp_path: Path) -> None:
    table, requests, found = (tmp_path / name for name in ("rows.csv", "requests.jsonl", "found.jsonl"))
    table.write_text('id,the text\na,"kind, ""quoted"""\nb,rude\n', encoding="utf-8-sig")
    made = batch(
        "make",
        table,
        "--prompt",
        'Say {"x": {the text}}',
        "--system",
        "S {id}",
        "--id-column",
        "id",
        "--output",
        requests,
    )
    assert (made.returncode, made.stdout) == (0, f"{requests} has 2 requests.\n"), made.stderr
    first = json.loads(requests.read_text().splitlines()[0])
    assert (first["custom_id"], first["url"]) == ("a", "/v1/chat/completions")
    assert [message["content"] for message in first["body"]["messages"]] == ["S a", 'Say {"x": kind, "quoted"}']
    ran = batch("run", requests, "--output", found, server=server)
    assert ran.returncode == 0, ran.stderr
    assert "completed, 2 of 2 lines, 0 errors" in ran.stderr
    assert answers(found).keys() == {"a", "b"}


def test_rows_can_be_embedded(batch: Batch, server: Server, tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("text\tn\nhi\t1\n")
    requests = tmp_path / "r.jsonl"
    words = ("make", tmp_path / "t.tsv", "--prompt", "{text}", "--kind", "embeddings", "--delimiter", "\t")
    assert batch(*words, "--output", requests).returncode == 0
    assert batch("run", requests, server=server).returncode == 0
    assert answers(tmp_path / "r.results.jsonl")["1"]["data"][0]["embedding"]


def test_lines_that_fail_are_saved_beside_and_the_code_says_so(batch: Batch, server: Server, tmp_path: Path) -> None:
    requests = tmp_path / "r.jsonl"
    requests.write_bytes(jsonl([*chats(["a"]), {**chats(["b"], temperature=9)[0], "custom_id": "bad"}]))
    ran = batch("run", requests, server=server)
    assert ran.returncode == 1
    assert answers(tmp_path / "r.results.jsonl")["0"]["choices"][0]["message"]["content"] == "a"
    assert answers(tmp_path / "r.results.errors.jsonl")["bad"]["error"]["param"] == "temperature"


def test_file_with_a_bad_line_is_told_by_its_number(batch: Batch, server: Server, tmp_path: Path) -> None:
    requests = tmp_path / "r.jsonl"
    requests.write_bytes(jsonl(chats(["a"])) + b"{}\n")
    ran = batch("run", requests, server=server)
    assert ran.returncode == 1
    assert "line 2: `custom_id` is missing." in ran.stderr


def test_batch_is_left_looked_at_and_ended(batch: Batch, server: Server, tmp_path: Path) -> None:
    requests = tmp_path / "r.jsonl"
    requests.write_bytes(jsonl(chats([SLOW] * 3)))
    id_ = batch("run", requests, "--detach", server=server).stdout.strip()
    wait_for(lambda: "in_progress, 0 of 3 lines" in batch("status", id_, server=server).stdout)
    assert json.loads(batch("list", "--json", server=server).stdout)[0]["id"] == id_
    listed = batch("list", server=server).stdout
    assert listed.index(id_) < listed.index("in_progress") < listed.index("/v1/chat/completions")
    assert batch("cancel", id_, server=server).returncode == 0
    waited = batch("wait", id_, "--output", tmp_path / "x", server=server)
    assert (waited.returncode, "cancelled" in waited.stderr) == (1, True)
    none = batch("output", id_, server=server)
    assert (none.returncode, "is cancelled and has no such results" in none.stderr) == (5, True)


def test_results_can_be_printed(batch: Batch, server: Server, tmp_path: Path) -> None:
    requests = tmp_path / "r.jsonl"
    requests.write_bytes(jsonl(chats(["a"])))
    batch("run", requests, server=server)
    id_ = json.loads(batch("list", "--json", server=server).stdout)[0]["id"]
    assert json.loads(batch("output", id_, server=server).stdout)["custom_id"] == "0"


@contextmanager
def watching(requests: Path, server: Server) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """`batch run` of a file, once its batch runs, and what it says."""
    env = {**os.environ, "MLX_SERVER_URL": server.root}
    with subprocess.Popen([*COMMAND, "run", requests], stderr=subprocess.PIPE, text=True, cwd=ROOT, env=env) as process:
        assert process.stderr is not None
        while "in_progress" not in (line := process.stderr.readline()):
            assert line, "it ended"
        yield process, process.stderr


def test_interrupt_leaves_the_batch_and_says_how_to_come_back(batch: Batch, server: Server, tmp_path: Path) -> None:
    requests = tmp_path / "r.jsonl"
    requests.write_bytes(jsonl(chats([SLOW])))
    with watching(requests, server) as (process, telling):
        process.send_signal(signal.SIGINT)
        said = telling.read()
        assert process.wait(30) == 130
    assert "The batch goes on without you: mlx-server batch wait batch_" in said
    batch("cancel", said.split()[-1], server=server)


def test_watching_survives_a_restart_of_the_server(launch: Callable[..., Server], tmp_path: Path) -> None:
    where = {"MLX_SERVER_DATA_DIR": str(tmp_path / "data")}
    server = launch(*SCRIPTED, env=where)
    requests = tmp_path / "r.jsonl"
    requests.write_bytes(jsonl(chats([{"text": "x", "tokens": 1, "first_token_s": 0.3}] * 40)))
    with watching(requests, server) as (process, _):
        server.process.kill()
        server.process.wait()
        launch(*SCRIPTED, "--port", server.root.rpartition(":")[2], env=where)
        assert process.wait(60) == 0
    assert len(answers(tmp_path / "r.results.jsonl")) == 40


def test_watching_goes_on_where_the_server_limits_requests(
    batch: Batch, launch: Callable[..., Server], tmp_path: Path
) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 1, "--rate-limit", "3/4second")
    requests = tmp_path / "r.jsonl"
    requests.write_bytes(jsonl(chats([{"text": "x", "tokens": 1, "first_token_s": 0.5}] * 8)))
    ran = batch("run", requests, server=server)
    assert ran.returncode == 0, ran.stderr
    assert len(answers(tmp_path / "r.results.jsonl")) == 8


def test_watching_that_fails_says_how_to_come_back(launch: Callable[..., Server], tmp_path: Path) -> None:
    server = launch(*SCRIPTED)
    requests = tmp_path / "r.jsonl"
    requests.write_bytes(jsonl(chats([SLOW])))
    with watching(requests, server) as (process, telling):
        server.process.kill()
        server.process.wait()
        other = {"MLX_SERVER_DATA_DIR": str(tmp_path / "another")}
        launch(*SCRIPTED, "--port", server.root.rpartition(":")[2], env=other)
        said = telling.read()
        assert process.wait(60) == 5
    assert "To come back to the batch: mlx-server batch wait batch_" in said
    assert "Error: There is no batch" in said


def test_refusals_end_the_watching_only_in_the_long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    asked = iter([NotNow("busy", 7.0), NoServer("gone"), NotNow("broken", 0.0), "an answer"])

    def ask() -> str:
        match next(asked):
            case Exception() as error:
                raise error
            case answer:
                return answer

    assert patiently(ask) == "an answer"
    assert waited == [7.0, 0.75, 1.125]
    asked = iter([NotNow("broken", 0.0)] * 100)
    with pytest.raises(NotNow):
        patiently(ask)
    assert waited[-1] == 5.0
    asked = iter([NoServer("gone")])
    with pytest.raises(NoServer):
        patiently(ask, met=False)


@pytest.mark.parametrize("column", ["id", "user/id", "#", "Name (full)"])
def test_rows_are_called_by_a_column_of_any_name(tmp_path: Path, column: str) -> None:
    rows = [{column: "a", "text": "x"}, {column: "b", "text": "y"}]
    write_requests(iter(rows), tmp_path / "r", "/x", chat_body("{text}", ""), column)
    assert [json.loads(line)["custom_id"] for line in (tmp_path / "r").read_text().splitlines()] == ["a", "b"]
    with pytest.raises(BadFile, match="there is no column 'other'"):
        write_requests(iter(rows), tmp_path / "r", "/x", chat_body("{text}", ""), "other")


@pytest.mark.parametrize(
    ("table", "prompt", "words"),
    [
        ("a,b\n1,2\n", "{c}", "there is no column 'c'; there are 'a', 'b'."),
        ("a\n1,2\n", "{a}", "line 2 has more values than there are columns."),
    ],
    ids=["column", "values"],
)
def test_table_that_does_not_fit_is_refused_and_nothing_is_left(
    batch: Batch, tmp_path: Path, table: str, prompt: str, words: str
) -> None:
    (tmp_path / "t.csv").write_text(table)
    made = batch("make", tmp_path / "t.csv", "--prompt", prompt, "--output", tmp_path / "r.jsonl")
    assert made.returncode != 0
    assert words in made.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_column_without_a_name_is_one_as_others_are(tmp_path: Path) -> None:
    (tmp_path / "pandas.csv").write_text(",text\n0,kind\n1,rude\n")
    rows = rows_of(tmp_path / "pandas.csv", ",")
    assert write_requests(rows, tmp_path / "r", "/x", chat_body("{text}", ""), "") == 2
    assert [json.loads(line)["custom_id"] for line in (tmp_path / "r").read_text().splitlines()] == ["0", "1"]


def test_no_server_is_told_in_a_line(batch: Batch, tmp_path: Path) -> None:
    done = batch("status", "x", "--url", "http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith("Error: http://127.0.0.1:9 can't be asked:")


def test_braces_that_are_no_column_stay() -> None:
    assert filled('{"a": {x}} {}', {"x": "1"}) == '{"a": 1} {}'
    with pytest.raises(BadFile):
        filled("{y}", {"x": "1"})


def test_bar_has_lines_pace_and_errors() -> None:
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with BatchDisplay(console) as display:
        display.show(BatchState("b", "in_progress", request_counts=Counts(10, 4, 1), usage=Usage(0, 50)))
    assert "5/10" in out.getvalue()
    assert "tokens/s" in out.getvalue()
    assert "1 errors" in out.getvalue()


@pytest.mark.parametrize(
    ("status", "counts", "well"),
    [
        ("completed", Counts(5, 5), True),
        ("completed", Counts(5, 4), False),
        ("completed", Counts(5, 4, 1), False),
        ("expired", Counts(5, 5), False),
    ],
)
def test_batch_went_well_where_every_line_has_its_answer(status: str, counts: Counts, well: bool) -> None:
    assert BatchState("b", status, request_counts=counts).well == well


def test_a_batch_that_rests_says_what_it_waits_for() -> None:
    resting = BatchState("b", "in_progress", request_counts=Counts(10), waiting_for="hours")
    assert line_of(resting) == "b: waits for the hours of --batch-hours, 0 of 10 lines, 0 errors"
    assert "in_progress" in line_of(msgspec.structs.replace(resting, waiting_for=None))
