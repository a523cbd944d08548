"""The live feed: who waits and runs, told once a second to those who may know, and requests that are ended by id."""

import contextlib
import json
import signal
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from support.running.raw import CHAT, RawClient, connect, http_request
from support.running.servers import SCRIPTED, Server, chat_body, wait_for
from support.running.streams import DONE, events

KEYED = """
[[model]]
path = "scripted"
type = "scripted"
max_concurrency = 1

[keys.ops]
key = "ops-key"
operator = true

[keys.ann]
key = "ann-key"

[keys.bob]
key = "bob-key"
"""
LONG = {"first_token_s": 60}
ENDLESS = {"tokens": 4000, "interval_s": 0.02}
MOST_OF_A_CORE = 0.01
PARTS = ("batches", "downloads", "logs")


@pytest.fixture
def server(launch: Callable[..., Server]) -> Server:
    return launch(*SCRIPTED, "--max-concurrency", 2, "--queue-size", 2)


@pytest.fixture
def keyed(launch: Callable[..., Server], tmp_path: Path) -> Server:
    (tmp_path / "models.toml").write_text(KEYED)
    server = launch("--config", tmp_path / "models.toml", wait=False)
    server.http.headers["x-api-key"] = "ops-key"
    server.wait_ready()
    return server


@contextlib.contextmanager
def listen(server: Server, *parts: str, **headers: str) -> Iterator[Iterator[Any]]:
    url = f"{server.root}/v1/live" + (f"?with={','.join(parts)}" if parts else "")
    with server.http.stream("GET", url, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        yield events(answer.iter_lines())


def until(states: Iterator[Any], true: Callable[[Any], bool]) -> Any:
    return next(state for state in states if true(state))


def ask(server: Server, name: str, script: Any, key: str | None = None, **more: Any) -> RawClient:
    headers = {"X-Request-Id": name} | ({} if key is None else {"x-api-key": key})
    sock = connect(server)
    sock.sendall(http_request(CHAT, json.dumps(chat_body(script, **more)).encode(), headers))
    return RawClient.of(sock)


def submit_failing(server: Server, count: int, **headers: str) -> None:
    """Batches that end at once, as their file has no request."""
    form: Any = {"data": {"purpose": "batch"}, "files": {"file": ("lines.jsonl", b"{}\n")}, "headers": headers}
    file = server.http.post(f"{server.root}/v1/files", **form).json()["id"]
    asked = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    for _ in range(count):
        assert server.post("/v1/batches", asked, headers=headers).status_code == 200


def cancel(server: Server, name: str, **headers: str) -> httpx.Response:
    return server.post(f"/v1/requests/{name}/cancel", b"", headers=headers)


def test_feed_tells_who_runs_and_who_waits(server: Server) -> None:
    assert server.chat("one that ends").status_code == 200
    with listen(server) as states:
        first = next(states)
        assert first["requests"] == []
        assert (first["history"], first["now"]["running"]) == ([], 0)
        with ask(server, "writes", ENDLESS, stream=True), ask(server, "reads", LONG):
            server.wait_stats(running_requests=2)
            with ask(server, "next", "hi"), ask(server, "last", "hi"):
                server.wait_stats(waiting_requests=2)
                assert server.chat("hi").status_code == 429
                state = until(states, lambda state: state["requests"] and state["requests"][0]["tokens"] > 40)
    requests = {one["id"]: one for one in state["requests"]}
    assert [*requests] == ["writes", "reads", "next", "last"]
    states_and_places = [(one["state"], one["position"]) for one in requests.values()]
    assert states_and_places == [("running", None), ("prefill", None), ("queued", 1), ("queued", 2)]
    assert 0 < requests["next"]["eta_s"] < requests["last"]["eta_s"]
    assert 10 < requests["writes"]["tokens_per_s"] < 60
    assert requests["writes"]["key"] is None
    assert (state["waiting_requests"], state["more_requests"], state["too_many_requests"]) == (2, 0, 1)
    [model] = state["models"]
    assert (model["name"], model["state"], model["workers"], model["restarts"]) == (
        "scripted",
        "loaded",
        {"ready": 1},
        0,
    )
    assert (model["running"], model["waiting"], model["rows_used"], model["refused"]) == (2, 2, 2, 1)
    assert model["tokens_per_s"] > 0
    assert model["memory_bytes"] > 1 << 20
    assert 0.01 < model["gap_s"]["p50"] <= model["gap_s"]["p95"] <= model["gap_s"]["p99"] < 1
    assert model["first_token_s"]["count"] == 2


def test_first_event_tells_what_was_before_somebody_listened(server: Server) -> None:
    def listened() -> Any:
        with listen(server) as states:
            return next(states), next(states)

    with ask(server, "writes", ENDLESS, stream=True):
        wait_for(lambda: any(point["running"] for point in listened()[0]["history"]))
        first, second = listened()
    last = first["history"][-1]
    assert 0 < last["age_s"] < 5.5
    assert (last["running"], last["waiting"], first["now"]["age_s"]) == (1, 0, 0)
    assert 2 < last["tokens_per_s"] < 60, "of the five seconds, in all of which it may not have run"
    assert last["gap_s"]["p50"] > 0.01
    assert second["history"] is None


def test_feed_tells_how_far_a_prompt_is_that_nobody_asked_about(server: Server) -> None:
    script = {"first_token_s": 3, "prompt_tokens": 100}
    with listen(server) as states, ask(server, "reads", script):
        state = until(states, lambda state: any(one["processed_tokens"] for one in state["requests"]))
    [request] = state["requests"]
    assert (request["state"], request["prompt_tokens"]) == ("prefill", 100)
    assert 0 < request["processed_tokens"] < 100


@pytest.mark.parametrize("stream", [False, True])
def test_cancelled_request_ends_with_an_error_that_is_not_sent_again(server: Server, stream: bool) -> None:
    with ThreadPoolExecutor(1) as pool:
        body = chat_body(ENDLESS, stream=stream)
        answer = pool.submit(server.post, "/v1/chat/completions", body, headers={"X-Request-Id": "a/b"})
        server.wait_until(lambda: server.stats()["rows_used"])
        if stream:
            server.wait_until(
                lambda: server.get("/metrics").text.count('generated_tokens_total{model="scripted"} 0.0') == 0
            )
        assert cancel(server, "a/b").json() == {"id": "a/b", "cancelled": 1}
        told = answer.result()
    if stream:
        *_, last = events(told.text.splitlines())
        assert last != DONE
        error = last["error"]
    else:
        assert (told.status_code, told.headers["x-should-retry"]) == (409, "false")
        error = told.json()["error"]
    assert (error["code"], error["type"]) == ("request_cancelled", "invalid_request_error")
    server.wait_stats(cancelled=1, failed=0, rows_used=0)
    unknown = cancel(server, "a/b")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")


def test_key_sees_and_ends_its_own_requests_alone(keyed: Server) -> None:
    with ask(keyed, "anns", LONG, "ann-key"), ask(keyed, "bobs", LONG, "bob-key"):
        keyed.wait_stats(active_requests=2)
        for key, seen in (("ops-key", ["anns", "bobs"]), ("ann-key", ["anns"]), ("bob-key", ["bobs"])):
            with listen(keyed, **{"x-api-key": key}) as states:
                state = next(states)
            assert [one["id"] for one in state["requests"]] == seen
            assert state["models"][0]["running"] == 1
        assert state["requests"][0]["key"] == "bob"
        assert state["requests"][0]["position"] == 1
        assert cancel(keyed, "anns", **{"x-api-key": "bob-key"}).status_code == 404
        assert cancel(keyed, "anns", **{"x-api-key": "no-key"}).status_code == 401
        assert cancel(keyed, "anns", **{"x-api-key": "ann-key"}).status_code == 200
        assert cancel(keyed, "bobs", **{"x-api-key": "ops-key"}).status_code == 200
        keyed.wait_stats(active_requests=0)


def test_without_keys_a_page_of_another_site_sees_no_request(server: Server) -> None:
    with ask(server, "mine", LONG):
        server.wait_stats(running_requests=1)
        with listen(server, origin="http://elsewhere.example") as states:
            assert next(states)["requests"] == []
        assert cancel(server, "mine", origin="http://elsewhere.example").status_code == 404


def test_head_is_answered_at_once(server: Server) -> None:
    with httpx.Client(base_url=server.root, timeout=10) as client:
        assert client.head("/v1/live").headers["content-type"] == "text/event-stream; charset=utf-8"
        assert client.get("/health/live").status_code == 200, "over the same connection"


@pytest.mark.parametrize("parts", [(), PARTS], ids=str)
def test_stream_ends_when_the_server_stops(server: Server, parts: tuple[str, ...]) -> None:
    with listen(server, *parts) as states:
        next(states)
        assert server.stop() == 0
        assert len([*states]) < 5


def test_parts_are_told_only_to_who_asks_for_them(server: Server) -> None:
    with listen(server) as states:
        usual = next(states).keys()
    assert not usual & set(PARTS)
    for parts in (("logs",), ("downloads", "batches"), PARTS):
        with listen(server, *parts) as states:
            assert next(states).keys() == usual | set(parts)


@pytest.mark.parametrize("given", ["", "logs,", "log", "logs,models", "logs, batches"])
def test_unknown_part_is_refused_with_what_there_is(server: Server, given: str) -> None:
    refused = server.get("/v1/live", params={"with": given})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "with")
    assert "batches, downloads, logs are allowed" in refused.json()["error"]["message"]
    assert server.get("/v1/live?without=logs").json()["error"]["param"] == "without"


def test_log_comes_line_by_line(server: Server) -> None:
    with listen(server, "logs") as states:
        first = next(states)["logs"]
        assert first == server.get("/v1/system/logs").json()
        assert first["last"] == first["lines"][-1]["number"] > 1
        assert server.chat("hi").status_code == 200
        more = until(states, lambda state: state["logs"]["lines"])["logs"]
        assert [line["number"] for line in more["lines"]] == [*range(first["last"] + 1, more["last"] + 1)]
        assert "POST /v1/chat/completions 200" in more["lines"][0]["text"]
        assert next(states)["logs"] == {"lines": [], "last": more["last"], "began": first["began"]}
        with listen(server, "logs") as others:
            assert next(others)["logs"]["lines"] == first["lines"] + more["lines"]


def test_batches_are_the_last_ones_of_the_key(keyed: Server) -> None:
    submit_failing(keyed, 21, **{"x-api-key": "ann-key"})
    ended = "/v1/batches?limit=21"
    keyed.wait_until(
        lambda: (
            {one["status"] for one in keyed.get(ended, headers={"x-api-key": "ann-key"}).json()["data"]} == {"failed"}
        )
    )
    for key, count in (("ann-key", 20), ("bob-key", 0), ("ops-key", 0)):
        listed = keyed.get("/v1/batches?limit=20", headers={"x-api-key": key}).json()["data"]
        with listen(keyed, "batches", **{"x-api-key": key}) as states:
            assert next(states)["batches"] == listed
        assert len(listed) == count


def test_state_goes_on_where_the_store_does_not_tell_of_batches(server: Server) -> None:
    with listen(server, "batches", "downloads") as states:
        assert next(states)["batches"] == []
        with contextlib.closing(sqlite3.connect(server.data_dir / "files.sqlite3")) as store:
            for table, renamed in (("batches", "gone"), ("gone", "batches")):
                store.execute(f"ALTER TABLE {table} RENAME TO {renamed}")
                state = until(states, lambda state, there=renamed == "batches": ("batches" in state) == there)
                assert state["downloads"] == []
    assert "the store does not tell of batches" in server.output()


def test_log_is_the_operators(keyed: Server, server: Server) -> None:
    for of, headers in ((keyed, {"x-api-key": "ann-key"}), (server, {"origin": "http://elsewhere.example"})):
        refused = of.get("/v1/live?with=batches,logs", headers=headers)
        assert refused.status_code == 403
        assert refused.json() == of.get("/v1/system/logs", headers=headers).json()


def test_stream_ends_for_a_key_that_may_see_less(keyed: Server, tmp_path: Path) -> None:
    with contextlib.ExitStack() as streams:
        ops, ann, bob = (
            streams.enter_context(listen(keyed, **{"x-api-key": key})) for key in ("ops-key", "ann-key", "bob-key")
        )
        for states in (ops, ann, bob):
            next(states)
        fewer = KEYED.replace("operator = true", "operator = false").replace("ann-key", "another")
        (tmp_path / "models.toml").write_text(fewer + "\nrequests_per_minute = 9")
        keyed.process.send_signal(signal.SIGHUP)
        for states in (ops, ann):
            assert len([*states]) < 10
        for _ in range(3):
            next(bob)


@pytest.mark.parametrize("parts", [(), PARTS], ids=str)
def test_listening_costs_less_than_a_hundredth_of_a_core(server: Server, parts: tuple[str, ...]) -> None:
    submit_failing(server, 20)
    front_end = psutil.Process(server.process.pid)
    with ask(server, "writes", {**ENDLESS, "interval_s": 1}, stream=True), listen(server, *parts) as states:
        for _ in range(2):
            next(states)
        before = front_end.cpu_times()
        for _ in range(10):
            next(states)
        after = front_end.cpu_times()
    spent = after.user + after.system - before.user - before.system
    assert spent / 10 < MOST_OF_A_CORE + 0.01, spent  # the clock's ticks are 0.01 s
