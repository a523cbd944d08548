"""The Now and Logs views in a real browser: what they show, end and leave out, with the server at work."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body, wait_for

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


def test_refusals_that_nobody_listened_to_are_no_rate(launch: Callable[..., Server], open_page: OpenPage) -> None:
    narrow = (*SCRIPTED, "--max-concurrency", 1, "--queue-size", 1)
    server = launch(*narrow)
    page = open_page(server, "now")
    turned = page.get_by_role("region", name="The last minutes").locator("figure").last
    path = turned.locator("path")
    expect(path).to_have_attribute("d", re.compile("^M"))
    page.get_by_role("link", name="Settings").click()
    with RawClient(server, chat_body(LONG)), RawClient(server, chat_body(LONG)):
        server.wait_stats(active_requests=2)
        assert [server.chat("hi").status_code for _ in range(3)] == [429, 429, 429]
    page.get_by_role("link", name="Now").click()
    expect(path).to_have_attribute("d", re.compile("^(M[^M]*){2}$"))
    server.stop()
    launch(*narrow, "--port", server.root.rpartition(":")[2])
    expect(path).to_have_attribute("d", re.compile("^(M[^M]*){3}$"))
    expect(turned.locator("strong")).to_have_text("0")
    points = re.findall(r"[ML]\S+ (\S+?)(?=[ML]|$)", path.get_attribute("d") or "")
    assert set(points) == {points[0]}, "none was refused, and none less than none"


def test_time_in_another_view_is_as_wide_as_it_was_long(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "now")
    page.clock.install()
    page.reload()
    plots = page.get_by_role("region", name="The last minutes")
    expect(plots).to_contain_text("since this view was opened")
    path, axis = plots.locator("path").first, plots.locator(".axis").first
    expect(path).to_have_attribute("d", re.compile("^M"))
    expect(axis).to_have_text(re.compile("^1 min ago *now$"))
    page.get_by_role("link", name="Settings").click()
    page.clock.fast_forward("03:00")
    page.get_by_role("link", name="Now").click()
    expect(axis).to_have_text(re.compile("^4 min ago *now$"))
    expect(path).to_have_attribute("d", re.compile("^M[^M]*M[^M]*$"))
    places = [float(x) for x in re.findall(r"[ML](\S+) ", path.get_attribute("d") or "")]
    assert places[-1] == 300
    assert max(after - before for before, after in itertools.pairwise(places)) >= 300 * 3 / 4 - 0.2
    page.get_by_role("link", name="Settings").click()
    page.clock.fast_forward("05:00")
    page.get_by_role("link", name="Now").click()
    expect(axis).to_have_text(re.compile("^1 min ago *now$"))


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
