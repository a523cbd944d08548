"""`/docs` in a real browser: examples that are sent by a press, and ids of what that made."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import FilePayload, Locator, Page, expect
from support.pictures import picture_file, plain
from support.running.raw import CHAT
from support.running.servers import Server
from support.sounds import wav

from mlx_server.app.openapi.examples import EXAMPLES

OpenPage = Callable[..., Page]
FILES = {
    "post_v1_audio_transcriptions": ("sound.wav", wav(1)),
    "post_v1_images_edits": ("red.png", picture_file(plain(size=(32, 32)))),
}


def opened(page: Page, operation: str) -> Locator:
    """An operation that can be tried out."""
    part = page.locator(f"[id$='-{operation}']")
    part.locator(".opblock-summary-control").click()
    part.get_by_role("button", name="Try it out").click()
    return part


def sent(part: Locator) -> Locator:
    """The status that an operation is answered with, sent as it stands."""
    part.get_by_role("button", name="Execute").click()
    return part.locator(".live-responses-table tbody .response-col_status")


def chosen(part: Locator, name: str, content: bytes) -> None:
    """Choose a file, the first that an operation takes."""
    file = FilePayload(name=name, mimeType="application/octet-stream", buffer=content)
    part.locator("input[type=file]").first.set_input_files([file])


def pressed(page: Page, operation: str) -> Locator:
    """The status that an operation's example is answered with."""
    return sent(opened(page, operation))


def test_what_was_made_is_named_where_something_can_be_done_with_it(
    scripted_server: Server, open_page: OpenPage
) -> None:
    page = open_page(scripted_server)
    page.goto(f"{scripted_server.root}/docs")
    for operation in ("post_v1_uploads", "post_v1_uploads_id_cancel"):
        expect(pressed(page, operation)).to_have_text("200")


def test_parts_of_an_upload_and_files_of_batches_are_named_in_bodies(
    scripted_server: Server, open_page: OpenPage
) -> None:
    page = open_page(scripted_server)
    page.goto(f"{scripted_server.root}/docs")
    expect(pressed(page, "post_v1_uploads")).to_have_text("200")
    part = opened(page, "post_v1_uploads_id_parts")
    chosen(part, "a.txt", b"Hello world.")
    expect(sent(part)).to_have_text("200")
    expect(pressed(page, "post_v1_uploads_id_complete")).to_have_text("200")

    line = {"custom_id": "1", "method": "POST", "url": CHAT, "body": EXAMPLES[CHAT]}
    files = opened(page, "post_v1_files")
    files.locator("[data-property-name=purpose] select").select_option("batch")
    chosen(files, "a.jsonl", json.dumps(line).encode())
    expect(sent(files)).to_have_text("200")
    expect(pressed(page, "post_v1_batches")).to_have_text("200")


def test_request_that_runs_is_named_where_it_can_be_cancelled(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server)
    page.goto(f"{scripted_server.root}/docs")
    asked = opened(page, "post_v1_completions")
    asked.locator("textarea").fill(json.dumps({"prompt": json.dumps({"first_token_s": 60})}))
    sent(asked)
    expect(pressed(page, "post_v1_requests_id_cancel")).to_have_text("200")


@pytest.mark.model
def test_examples_with_files_are_answered(studio_server: Server, open_page: OpenPage) -> None:
    page = open_page(studio_server)
    page.goto(f"{studio_server.root}/docs")
    for operation, file in FILES.items():
        part = opened(page, operation)
        chosen(part, *file)
        expect(sent(part)).to_have_text("200")
