"""What the chat says when a worker dies, and where a request stands in a long line."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from console.pages import answers, say, script
from playwright.sync_api import Page, expect
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body

OpenPage = Callable[..., Page]
WAITING = 400
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT_ITS_MIDDLE = """element => {
  const { x, y, width, height } = element.getBoundingClientRect();
  return element.contains(document.elementFromPoint(x + width / 2, y + height / 2));
}"""
"""Whether nothing lies over it."""


def test_dead_worker_is_told_and_the_next_answer_comes(launch: Callable[..., Server], open_page: OpenPage) -> None:
    server = launch(*SCRIPTED)
    page = open_page(server)
    say(page, script(tokens=1000, interval_s=0.05))
    expect(answers(page)).to_contain_text("token")
    [worker] = server.worker_pids()
    os.kill(worker, signal.SIGKILL)
    expect(page.get_by_role("alert")).to_contain_text("worker")
    page.get_by_role("button", name="New chat").click()
    say(page, "hello again")
    expect(answers(page).locator(".figures")).to_contain_text("2 tokens")


def test_server_that_is_gone_is_told_in_every_view_and_covers_nothing(
    launch: Callable[..., Server], open_page: OpenPage
) -> None:
    server = launch(*SCRIPTED)
    page = open_page(server)
    say(page, "hello")
    expect(answers(page).locator(".figures")).to_be_visible()
    page.get_by_role("button", name="Edit").press("Enter")
    page.get_by_role("link", name="Settings").click()
    level = page.get_by_label("How much is logged")
    expect(level).to_be_visible()
    server.stop()
    level.select_option("DEBUG")
    expect(page.locator(".notice").first).to_contain_text("The server can't be reached.")
    page.get_by_role("link", name="Models").click()
    models = page.get_by_role("region", name="Models here")
    expect(models.get_by_role("alert").first).to_have_text("The server can't be reached.")
    shown = page.locator(".notice")
    expect(shown).to_have_count(0)
    page.clock.install(time=NOON)
    page.clock.pause_at(NOON + timedelta(hours=1))  # notices stay
    page.get_by_role("link", name="Chat", exact=True).click()
    edited = page.locator("form.editing")
    expect(shown).to_have_text(["The server can't be reached."])
    for width, height in ((1280, 800), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        for name in ("Send", "Attach files", "Parameters", "Copy as curl or Python", "Dismiss"):
            assert page.get_by_role("button", name=name).last.evaluate(AT_ITS_MIDDLE), name
        assert edited.get_by_role("button", name="Send").evaluate(AT_ITS_MIDDLE)
        assert page.evaluate("document.documentElement.scrollHeight") <= height
    edited.get_by_role("button", name="Send").click()
    expect(shown).to_have_count(2)
    expect(edited.get_by_label("Edited message")).to_have_value("hello")
    for _ in range(2):
        page.get_by_role("button", name="Dismiss").first.click()
    expect(shown).to_have_count(0)


def test_answer_that_breaks_off_is_told(launch: Callable[..., Server], open_page: OpenPage) -> None:
    server = launch(*SCRIPTED)
    page = open_page(server)
    say(page, script(tokens=1000, interval_s=0.05))
    expect(answers(page)).to_contain_text("token")
    server.stop(signal.SIGKILL)
    expect(answers(page).get_by_role("alert")).to_have_text("The server can't be reached.")


def test_request_behind_400_others_knows_its_place(launch: Callable[..., Server], open_page: OpenPage) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 1, "--queue-size", 2 * WAITING, "--keepalive", 0.2)
    page = open_page(server)
    endless = chat_body({"tokens": 1_000_000, "interval_s": 0.01}, stream=True)
    with ExitStack() as clients:
        for _ in range(WAITING):
            clients.enter_context(RawClient(server, endless))
        server.wait_stats(waiting_requests=WAITING - 1)
        say(page, "hello")
        place = expect(page.locator(".waiting"))
        place.to_contain_text(f"Waiting, number {WAITING} in line")
        # Once more as the page draws it anew: the place is told when it changes.
        page.get_by_role("button", name="New chat").click()
        page.locator(".sidebar").get_by_text("hello").click()
        place.to_contain_text(f"Waiting, number {WAITING} in line")
    expect(answers(page).locator(".figures")).to_contain_text("1 token")
