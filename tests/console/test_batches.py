"""Batches in the Now view of a real browser: their progress, their end, and their results as a file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from support.batches import CHAT, chats, jsonl
from support.running.servers import SCRIPTED, Server

OpenPage = Callable[..., Page]
STUCK = {"text": "stuck", "tokens": 1, "first_token_s": 60}


@pytest.fixture
def server(launch: Callable[..., Server]) -> Server:
    return launch(*SCRIPTED, "--max-concurrency", 2)


def submit(server: Server, lines: list[dict[str, Any]]) -> str:
    """A batch of the one who sends no key, as the page does."""
    form: Any = {"data": {"purpose": "batch"}, "files": {"file": ("lines.jsonl", jsonl(lines))}}
    file = server.http.post(f"{server.root}/v1/files", **form).json()["id"]
    asked = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    return str(server.post("/v1/batches", asked).json()["id"])


def test_batch_is_followed_cancelled_and_saved(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "now")
    batches = page.get_by_role("region", name="Batches")
    expect(page.get_by_role("region", name="Models")).to_contain_text("1 ready")
    expect(batches).to_be_hidden()
    id_ = submit(server, chats(["first", "second" * 20, STUCK]))
    expect(batches).to_contain_text("1 under way")
    expect(batches).to_contain_text("2 of 3")
    expect(batches.get_by_role("progressbar")).to_have_js_property("value", 2)
    button = batches.get_by_role("button", name=f"Cancel {id_}")
    button.focus()
    page.keyboard.press("Enter")
    expect(batches.locator(".state")).to_have_text("cancelled")
    expect(button).to_have_count(0)
    with page.expect_download() as saving:
        batches.get_by_role("button", name=f"Save the results of {id_}").click()
    assert saving.value.suggested_filename == f"{id_}_output.jsonl"
    lines = Path(saving.value.path()).read_text().splitlines()
    assert {json.loads(line)["custom_id"] for line in lines} == {"0", "1"}


def test_batch_that_failed_says_why_over_its_state(server: Server, open_page: OpenPage) -> None:
    submit(server, [{"custom_id": "a"}])
    batches = open_page(server, "now").get_by_role("region", name="Batches")
    expect(batches.locator(".state")).to_have_text("failed")
    expect(batches.locator("td[title]")).to_have_attribute("title", re.compile("method"))
