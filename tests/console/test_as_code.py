"""A chat as code: what is copied runs elsewhere, and is answered."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Callable

from console.pages import answers, say
from PIL import Image
from playwright.sync_api import Page, expect
from support.running.servers import Server

OpenPage = Callable[..., Page]


def copied(page: Page, name: str) -> str:
    """What the button of that name copies."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy as curl or Python").click()
    page.get_by_role("button", name=f"Copy as {name}", exact=True).click()
    text = str(page.evaluate("navigator.clipboard.readText()"))
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    return text


def run(program: str, text: str) -> str:
    """What a program prints that reads a text and ends well."""
    done = subprocess.run([program], input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_copied_curl_takes_a_picture_that_is_too_long_for_an_argument(
    scripted_server: Server, open_page: OpenPage
) -> None:
    page = open_page(scripted_server)
    Image.frombytes("RGB", (300, 300), os.urandom(270_000)).save(noise := io.BytesIO(), "png")
    picture = {"name": "noise.png", "mimeType": "image/png", "buffer": noise.getvalue()}
    page.locator("input[type=file]").set_input_files(files=[picture])
    expect(page.locator(".composer .file img")).to_be_visible()
    say(page, "It's $HOME\nEOF\n")
    expect(answers(page).locator(".figures")).to_be_visible()
    answer = json.loads(run("bash", copied(page, "curl")))
    assert answer["choices"]
