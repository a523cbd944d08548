"""What the chat says when a worker dies, and where a request stands in a long line."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack

from console.pages import answers, say, script
from playwright.sync_api import Page, expect
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body

OpenPage = Callable[..., Page]
WAITING = 400


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


def test_request_behind_400_others_knows_its_place(launch: Callable[..., Server], open_page: OpenPage) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 1, "--queue-size", 2 * WAITING, "--keepalive", 0.2)
    page = open_page(server)
    endless = chat_body({"tokens": 1_000_000, "interval_s": 0.01}, stream=True)
    with ExitStack() as clients:
        for _ in range(WAITING):
            clients.enter_context(RawClient(server, endless))
        server.wait_stats(waiting_requests=WAITING - 1)
        say(page, "hello")
        expect(page.locator(".waiting")).to_contain_text(f"Waiting, number {WAITING} in line")
    expect(answers(page).locator(".figures")).to_contain_text("1 token")
