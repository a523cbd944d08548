"""A real browser without a window, and pages of it that complain about nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from console.pages import ELSEWHERE
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from support.running.servers import SCRIPTED, Server, serving

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
WIDE = {"width": 1280, "height": 800}
PATIENCE_MS = 20_000
"""The machine may be busy with other tests."""

OpenPage = Callable[..., Page]

expect.set_options(timeout=PATIENCE_MS)


def installed() -> str | None:
    """A browser of this machine; None for the one that `playwright install chromium` brings."""
    return next(filter(None, map(shutil.which, (*BROWSERS, MAC))), None)


@pytest.fixture(scope="session")
def scripted_server() -> Iterator[Server]:
    """One server with the scripted backend, for the pages of all files that only talk to it: what they keep is in their
    own profiles."""
    with serving(*SCRIPTED, "--max-concurrency", 4) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for the tests of one file: while it runs, no other event loop can."""
    flags = [f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=installed(), args=flags)
        yield found
        found.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens a server's console at a view, in a profile of its own; nothing may go wrong in the page unnoticed.

    `host` is by which name; `blocked` are words of what the policy is expected to block.
    """
    problems: list[str] = []
    contexts = []

    def opened(
        server: Server, view: str = "chat", host: str = "127.0.0.1", blocked: Sequence[str] = (), **how: Any
    ) -> Page:
        def note(message: ConsoleMessage) -> None:
            # The browser says so of every refusal; what the page makes of it is what the tests look at.
            known = ("Failed to load resource", *blocked)
            if message.type == "error" and not any(words in message.text for words in known):
                problems.append(message.text)

        context = browser.new_context(**{"viewport": WIDE, **how})
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{server.root.replace('127.0.0.1', host)}/#/{view}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []
