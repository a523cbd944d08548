"""The Now and Logs views in a real browser: what they show, end and leave out, with the server at work."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from console.pages import ELSEWHERE
from playwright.sync_api import Page, expect
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body, wait_for
from support.running.streams import events

OpenPage = Callable[..., Page]
LONG = {"first_token_s": 60}
ENDLESS = {"tokens": 4000, "interval_s": 0.02}
QUEUED = 400
LEFT = "part => part.getBoundingClientRect().left"


@pytest.fixture
def server(launch: Callable[..., Server]) -> Server:
    return launch(*SCRIPTED, "--max-concurrency", 2, "--queue-size", QUEUED)


def test_requests_and_rates_are_shown_as_they_change(server: Server, open_page: OpenPage) -> None:
    assert server.chat("one that ends").status_code == 200
    page = open_page(server, "now")
    requests = page.get_by_role("region", name="Requests")
    expect(requests).to_contain_text("0 running, 0 waiting")
    expect(requests).to_contain_text("Nobody asks for anything.")
    with RawClient(server, chat_body(ENDLESS, stream=True)), RawClient(server, chat_body(LONG)):
        server.wait_stats(running_requests=2)
        with RawClient(server, chat_body("hi")):
            expect(requests).to_contain_text("2 running, 1 waiting")
            expect(requests).not_to_contain_text("Nobody")
            expect(requests.get_by_role("row").nth(1)).to_contain_text("running")
            expect(requests.get_by_role("row").nth(2)).to_contain_text("prefill")
            expect(requests.get_by_role("row").nth(3)).to_contain_text("1. in the queue, in")
        plots = page.get_by_role("region", name="The last minutes")
        speed = plots.locator("figure").first
        expect(speed.locator("strong")).to_have_text(re.compile(r"[1-9][\d.]+"))
        expect(speed.locator("path")).to_have_attribute("d", re.compile(r"^M.*L"))
        models = page.get_by_role("region", name="Models")
        expect(models.get_by_role("row").nth(1)).to_contain_text("1 ready")
        expect(models.get_by_role("row").nth(1)).to_contain_text("2/2")
        expect(models.get_by_role("row").nth(1)).not_to_contain_text("of 0 B")
    expect(requests).to_contain_text("0 running, 0 waiting")


def test_request_is_cancelled_by_the_keyboard(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "now")
    with RawClient(server, chat_body(ENDLESS, stream=True)) as client:
        button = page.get_by_role("button", name=re.compile("Cancel"))
        button.focus()
        tokens = page.get_by_role("region", name="Requests").get_by_role("row").nth(1).locator("td").nth(6)
        before = tokens.inner_text()
        expect(tokens).not_to_have_text(before)
        expect(button).to_be_focused()
        page.keyboard.press("Enter")
        assert b"request_cancelled" in client.read_until(b"request_cancelled")
    expect(button).to_have_count(0)
    server.wait_stats(cancelled=1, active_requests=0)


def test_killed_worker_is_shown(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "now")
    models = page.get_by_role("region", name="Models")
    expect(models).to_contain_text("1 ready")
    [worker] = server.worker_pids()
    os.kill(worker, signal.SIGKILL)
    expect(models).to_contain_text("1 ready, 1 restart")


def test_hundreds_that_wait_are_shown_and_counted(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "now")
    with contextlib.ExitStack() as clients:
        for _ in range(QUEUED + 2):
            clients.enter_context(RawClient(server, chat_body(LONG)))
        server.wait_stats(active_requests=QUEUED + 2)
        requests = page.get_by_role("region", name="Requests")
        expect(requests).to_contain_text("2 running, 400 waiting")
        expect(requests).to_contain_text("The first 200 of 402 are shown.")
        expect(requests.get_by_role("row")).to_have_count(201)


def test_feed_is_listened_to_only_while_it_is_looked_at(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "now")
    expect(page.get_by_role("region", name="Models")).to_contain_text("1 ready")
    page.get_by_role("link", name="Settings").click()
    wait_for(lambda: "GET /v1/live left" in server.output(), what=server.output)


@pytest.mark.parametrize(
    ("view", "part", "seen", "at_first"),
    [
        ("now", "batches", "1 ready", set()),
        ("models", "downloads", "that they may have", {"/v1/models", "/v1/manager/status"}),
        ("logs", "logs", "GET / 200", set()),
    ],
)
def test_view_listens_to_one_stream_and_asks_for_nothing_again(
    server: Server, open_page: OpenPage, view: str, part: str, seen: str, at_first: set[str]
) -> None:
    page = open_page(server, view)
    page.clock.install()
    asked: Counter[str] = Counter()
    page.on("request", lambda request: asked.update([request.url.removeprefix(server.root)]))
    page.reload()
    expect(page.get_by_role("region", name=view.capitalize(), exact=True)).to_contain_text(seen)
    page.clock.run_for(10_000)
    page.evaluate("fetch('/health/live')")
    api = {path: count for path, count in asked.items() if not path.startswith("/console/")}
    assert api.keys() == {"/", f"/v1/live?with={part}", "/health/live", *at_first}
    assert api[f"/v1/live?with={part}"] == 1
    assert max(api.values()) <= 2, "the models when the view is opened, and when it is told how they are"


def test_next_view_has_the_stream_for_itself(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "now")
    expect(page.get_by_role("region", name="Models")).to_contain_text("1 ready")
    for view, part in (("Models", "downloads"), ("Logs", "logs"), ("Now", "batches")):
        left = server.output().count("GET /v1/live left")
        with page.expect_request(f"**/v1/live?with={part}"):
            page.get_by_role("link", name=view).click()
        wait_for(lambda left=left: server.output().count("GET /v1/live left") == left + 1, what=server.output)


def test_log_is_refused_to_others_than_the_operator(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "logs", host=ELSEWHERE)
    logs = page.get_by_role("region", name="Logs", exact=True)
    expect(logs.get_by_role("alert")).to_contain_text("The Host header must name this machine")
    expect(logs.get_by_role("listitem")).to_have_count(0)


def test_server_that_is_gone_is_told_and_the_next_one_is_found(
    server: Server, launch: Callable[..., Server], open_page: OpenPage
) -> None:
    page = open_page(server, "now")
    models = page.get_by_role("region", name="Models")
    expect(models).to_contain_text("1 ready")
    server.stop()
    expect(page.get_by_role("alert")).to_contain_text("The server")
    launch(*SCRIPTED, "--port", server.root.rpartition(":")[2], "--max-concurrency", 3)
    expect(models).to_contain_text("0/3")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_what_was_before_the_view_was_opened_is_plotted(launch: Callable[..., Server], open_page: OpenPage) -> None:
    narrow = (*SCRIPTED, "--max-concurrency", 1, "--queue-size", 1)
    server = launch(*narrow)
    with RawClient(server, chat_body(LONG)), RawClient(server, chat_body(LONG)):
        server.wait_stats(active_requests=2)
        assert [server.chat("hi").status_code for _ in range(3)] == [429, 429, 429]
        wait_for(lambda: any(point["refused_per_s"] for point in first_state(server)["history"]), every_s=0.5)
    page = open_page(server, "now")
    plots = page.get_by_role("region", name="The last minutes").locator("figure")
    requests, turned = plots.filter(has_text="Requests"), plots.last
    expect(turned.locator("small").first).to_have_text(re.compile(r"highest 0\.[1-9]"))
    expect(turned.locator("strong")).to_have_text(re.compile(r"^0(\.0)?$"))
    expect(requests.locator("small").first).to_have_text("highest 1")
    server.stop()
    launch(*narrow, "--port", server.root.rpartition(":")[2])
    expect(turned.locator("small").filter(has_text="highest")).to_have_count(0)


def first_state(server: Server) -> Any:
    """What who begins to listen hears first."""
    with server.http.stream("GET", f"{server.root}/v1/live") as answer:
        return next(events(answer.iter_lines()))


def test_points_stand_where_their_age_is(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "chat")
    now = first_state(server)["now"]
    history = [{**now, "age_s": age, "running": running} for age, running in ((400, 9), (245, 4), (120, 2))]
    state = json.dumps({**first_state(server), "history": history, "now": {**now, "running": 1}})
    page.route("**/v1/live*", lambda route: route.fulfill(content_type="text/event-stream", body=f"data: {state}\n\n"))
    page.get_by_role("link", name="Now").click()
    plot = page.get_by_role("region", name="The last minutes").locator("figure").filter(has_text="Requests")
    expect(plot.locator(".axis")).to_have_text(re.compile("^5 min ago *now$"))
    expect(plot).to_contain_text("highest 4")
    expect(plot.locator("path").first).to_have_attribute("d", "M55.0 3.0L180.0 36.0L300.0 52.5")


def test_narrow_page_scrolls_only_its_tables(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "now", viewport={"width": 390, "height": 800}, color_scheme="dark")
    expect(page.get_by_role("region", name="Models")).to_contain_text("1 ready")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("link", name="Logs").click()
    short = page.get_by_role("list", name="Lines").get_by_role("listitem").filter(has_text="scripted: loaded")
    parts = [part.evaluate(LEFT) for part in (short.locator("time"), short.locator("span"))]
    assert parts[0] == parts[1], "texts begin where lines do, however short they are"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_log_is_filtered_and_goes_on(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "logs")
    lines = page.get_by_role("list", name="Lines")
    expect(lines).to_contain_text("GET / 200")
    page.get_by_label("Filter").fill("chat/completions")
    expect(lines).to_contain_text("No such line.")
    assert server.chat("a secret").status_code == 200
    expect(lines.get_by_role("listitem")).to_have_count(1)
    expect(lines).to_contain_text("POST /v1/chat/completions 200")
    expect(lines.locator("time")).to_have_text(re.compile(r"^\d\d:\d\d:\d\d\.\d{3}$"))
    assert "secret" not in json.dumps(lines.inner_text())
    page.get_by_label("Level").select_option("error")
    expect(lines).to_contain_text("No such line.")
    page.get_by_label("Filter").fill("engine")
    assert server.chat({"crash_at": 1}).status_code == 502
    expect(lines).to_contain_text("worker the engine can't go on")


def test_log_of_the_next_process_takes_the_place_of_the_last_ones(
    server: Server, launch: Callable[..., Server], open_page: OpenPage
) -> None:
    page = open_page(server, "logs")
    lines = page.get_by_role("list", name="Lines")
    assert server.chat("hi").status_code == 200
    expect(lines).to_contain_text("POST /v1/chat/completions 200")
    page.get_by_role("link", name="Settings").click()
    known = server.get("/v1/system/logs").json()["last"]
    server.stop()
    following = launch(*SCRIPTED, "--port", server.root.rpartition(":")[2], "--log-level", "debug")
    wait_for(lambda: following.get("/") and following.get("/v1/system/logs").json()["last"] > known)
    page.get_by_role("link", name="Logs").click()
    expect(lines).not_to_contain_text("chat/completions")
    expect(lines.get_by_role("listitem").filter(has_text="scripted: loaded")).to_have_count(1)
