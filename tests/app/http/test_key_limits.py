"""Keys of the configuration file: what they may use and ask for, and that a running server follows the file."""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from support.running.servers import Server, chat_body

CONFIG = """
[[model]]
path = "scripted"
type = "scripted"
max_concurrency = 2

[keys.ops]
key_file = "ops.key"
max_priority = "high"
operator = true

[keys.student]
key = "student-key"
requests_per_minute = 3

[keys.nightly]
key = "nightly-key"
max_priority = "low"
tokens_per_minute = 20
max_rows = 1
"""


@pytest.fixture
def server(launch: Callable[..., Server], tmp_path: Path) -> Server:
    (tmp_path / "ops.key").write_text("ops-key\n")
    (tmp_path / "models.toml").write_text(CONFIG)
    server = launch("--config", tmp_path / "models.toml", wait=False)
    server.http.headers["x-api-key"] = "ops-key"
    server.wait_ready()
    return server


def ask(server: Server, key: str, priority: str | None = None, script: Any = "hi") -> httpx.Response:
    headers = {"x-api-key": key} | ({} if priority is None else {"X-Priority": priority})
    return server.post("/v1/chat/completions", chat_body(script), headers=headers)


def test_each_key_may_what_its_table_says(server: Server) -> None:
    assert [ask(server, "ops-key", word).status_code for word in ("low", "normal", "high", "High")] == [200] * 4
    refused = ask(server, "student-key", "high")
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error")
    assert refused.json()["detail"] == "`X-Priority`: this key may ask for normal at most."
    wrong = ask(server, "ops-key", "urgent")
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "X-Priority")
    assert wrong.json()["detail"] == "`X-Priority`: allowed are high, normal, low, idle."
    stop = server.post("/v1/system/shutdown", {}, headers={"x-api-key": "student-key"})
    assert (stop.status_code, stop.json()["error"]["code"]) == (403, "forbidden")
    assert "key=ops model=scripted" in server.output()
    assert not [key for key in ("ops-key", "student-key") if key in server.output()]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/models/scripted/load", None),
        ("/v1/models/scripted/unload", None),
        ("/v1/manager/models/scripted/priority", {"priority": 1}),
        ("/api/models/load", {"model_id": "scripted", "force_reload": True}),
        ("/api/models/unload", {"model_id": "scripted", "force": True}),
    ],
)
def test_only_a_key_of_the_operator_moves_models(server: Server, path: str, body: dict[str, Any] | None) -> None:
    before = server.worker_pids()
    refused = server.http.post(f"{server.root}{path}", json=body, headers={"x-api-key": "student-key"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    assert "operator" in refused.json()["detail"]
    assert server.worker_pids() == before
    assert server.get("/v1/models/scripted/health").json()["healthy"]
    assert server.http.post(f"{server.root}{path}", json=body).status_code == 200


def test_a_key_that_used_its_minute_is_told_when_to_come_again(server: Server) -> None:
    assert [ask(server, "student-key").status_code for _ in range(3)] == [200] * 3
    refused = ask(server, "student-key")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert "3 requests a minute" in refused.json()["detail"]
    client = openai.OpenAI(base_url=server.url, api_key="student-key", max_retries=0)
    with client, pytest.raises(openai.RateLimitError):
        client.embeddings.create(model="scripted", input="any work counts")
    assert ask(server, "ops-key").status_code == 200
    assert ask(server, "nightly-key", script="a text of some twenty words " * 4).status_code == 200
    assert "tokens a minute" in ask(server, "nightly-key").json()["detail"]


def test_each_answer_of_a_benchmark_counts(server: Server) -> None:
    def measure(key: str, **headers: str) -> httpx.Response:
        plan = {"num_samples": 3, "max_tokens": 4, "include_warmup": False}
        url = f"{server.root}/api/models/benchmark/scripted"
        return server.http.post(url, json=plan, headers={"x-api-key": key, **headers})

    assert measure("student-key", **{"X-Priority": "high"}).status_code == 403
    assert measure("student-key").status_code == 200
    refused = measure("student-key")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(refused.headers["retry-after"]) <= 20


def test_another_file_holds_at_once_and_forgets_nothing(server: Server, tmp_path: Path) -> None:
    assert [ask(server, "student-key").status_code for _ in range(4)] == [200] * 3 + [429]
    file = tmp_path / "models.toml"
    file.write_text(CONFIG.replace("requests_per_minute = 3", "requests_per_minute = 5").replace("nightly-key", "new"))
    server.process.send_signal(signal.SIGHUP)
    server.wait_until(lambda: ask(server, "new").status_code == 200)
    assert ask(server, "nightly-key").status_code == 401
    assert [ask(server, "student-key").status_code for _ in range(3)] == [200] * 2 + [429]


def test_a_low_key_waits_behind_the_others_and_holds_one_row(server: Server) -> None:
    def timed(key: str, tokens: int) -> str:
        assert ask(server, key, script={"tokens": tokens, "interval_s": 0.05}).status_code == 200
        return key

    with ThreadPoolExecutor(8) as pool:
        blocking = [pool.submit(timed, "ops-key", 30) for _ in range(2)]
        server.wait_stats(running_requests=2)
        order: list[str] = []
        waiting = [pool.submit(timed, key, tokens) for key, tokens in [("nightly-key", 8), *[("ops-key", 2)] * 3]]
        for one in waiting:
            one.add_done_callback(lambda done: order.append(done.result()))
        server.wait_stats(running_requests=2, waiting_requests=4)
        for one in (*blocking, *waiting):
            one.result()
    assert order[-1] == "nightly-key"
