"""The log's last lines, for the operator alone."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

from support.running.servers import SCRIPTED, Server

from mlx_server.app.live.recent_logs import MOST_CHARACTERS, MOST_LINES, RecentLogs

KEYED = """
[[model]]
path = "scripted"
type = "scripted"

[keys.ops]
key = "ops-key"
operator = true

[keys.ann]
key = "ann-key"
"""


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("mlx_server.test", logging.WARNING, "", 0, text, (), None)


def test_only_the_last_lines_are_kept_and_none_is_endless() -> None:
    logs = RecentLogs()
    for number in range(MOST_LINES + 5):
        logs.handle(record(f"line {number + 1}"))
    logs.handle(record("x" * 10 * MOST_CHARACTERS))
    lines = logs.after(0).lines
    assert (len(lines), lines[0].text) == (MOST_LINES, "line 7")
    told = logs.after(MOST_LINES + 4)
    assert [line.number for line in told.lines] == [MOST_LINES + 5, told.last] == [MOST_LINES + 5, MOST_LINES + 6]
    assert len(lines[-1].text) == MOST_CHARACTERS
    assert (lines[0].level, lines[0].logger) == ("warning", "mlx_server.test")


def test_lines_are_read_on_and_have_nothing_of_what_requests_say(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    assert server.chat("a secret").status_code == 200
    answer = server.get("/v1/system/logs").json()
    lines, began = answer["lines"], answer["began"]
    chats = [line for line in lines if "POST /v1/chat/completions 200" in line["text"]]
    assert [line["level"] for line in chats] == ["info"]
    assert not [line for line in lines if "secret" in line["text"]]
    last = lines[-1]["number"]
    assert server.get(f"/v1/system/logs?after={last}").json() == {"lines": [], "last": last, "began": began}, (
        "reading it leaves no line"
    )
    assert began[:23] <= lines[0]["at"][:23]
    refused = server.get("/v1/system/logs?after=x")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "after")


def test_workers_lines_are_there_too(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    server.chat({"text": "a secret", "crash_at": 1})

    def found() -> list[dict[str, object]]:
        lines = server.get("/v1/system/logs").json()["lines"]
        return [line for line in lines if line["logger"] == "mlx_server.worker" and line["level"] == "error"]

    server.wait_until(found)
    assert "Traceback" in str(found())
    assert "secret" not in str(found())
    assert re.search(r"^\S+ \S+ ERROR   worker ", server.output(), re.MULTILINE)


def test_lines_are_the_operators(launch: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(KEYED)
    server = launch("--config", tmp_path / "models.toml", wait=False)
    server.http.headers["x-api-key"] = "ops-key"
    server.wait_ready()
    assert server.get("/v1/system/logs").status_code == 200
    assert server.get("/v1/system/logs", headers={"x-api-key": "ann-key"}).status_code == 403
