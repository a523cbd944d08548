"""`/docs` in a real browser: examples that are sent by a press, and ids of what that made."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from typing import Any

import pytest
from playwright.sync_api import FilePayload, Locator, Page, Route, expect
from support.pictures import picture_file, plain
from support.running.raw import CHAT
from support.running.servers import Server
from support.sounds import wav

from mlx_server.app.openapi.examples import EXAMPLES

OpenPage = Callable[..., Page]
REFERENCE = re.compile(r'"#/components/schemas/([^"]+)"')
MAKE = (
    *("/v1/uploads", "/v1/uploads/{id}/parts", "/v1/uploads/{id}/complete", "/v1/uploads/{id}/cancel"),
    *("/v1/files", "/v1/batches", "/v1/completions", "/v1/requests/{id}/cancel"),
)
FILES = {
    "/v1/audio/transcriptions": ("sound.wav", wav(1)),
    "/v1/images/edits": ("red.png", picture_file(plain(size=(32, 32)))),
}


def show(page: Page, server: Server, paths: Collection[str]) -> None:
    """The page with these paths alone, and what they are described by: a browser that draws without a GPU would take
    seconds for each press."""

    def cut(route: Route) -> None:
        spec = route.fetch().json()
        spec["paths"] = {path: spec["paths"][path] for path in paths}
        schemas, wanted = spec["components"]["schemas"], set(REFERENCE.findall(json.dumps(spec["paths"])))
        kept: dict[str, Any] = {}
        while wanted:
            name = wanted.pop()
            kept[name] = schemas[name]
            wanted |= set(REFERENCE.findall(json.dumps(kept[name]))) - kept.keys()
        spec["components"]["schemas"] = kept
        route.fulfill(json=spec)

    page.route("**/openapi.json", cut)
    page.goto(f"{server.root}/docs")


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
    show(page, scripted_server, MAKE)
    uploads = opened(page, "post_v1_uploads")
    expect(sent(uploads)).to_have_text("200")
    expect(pressed(page, "post_v1_uploads_id_cancel")).to_have_text("200")

    # Parts of another upload, in the body that completes it.
    answer = uploads.locator(".live-responses-table tbody .response-col_description")
    first = answer.inner_text()
    expect(sent(uploads)).to_have_text("200")
    expect(answer).not_to_have_text(first)
    part = opened(page, "post_v1_uploads_id_parts")
    chosen(part, "a.txt", b"Hello world.")
    expect(sent(part)).to_have_text("200")
    expect(pressed(page, "post_v1_uploads_id_complete")).to_have_text("200")

    # A file in a batch's body.
    line = {"custom_id": "1", "method": "POST", "url": CHAT, "body": EXAMPLES[CHAT]}
    files = opened(page, "post_v1_files")
    files.locator("[data-property-name=purpose] select").select_option("batch")
    chosen(files, "a.jsonl", json.dumps(line).encode())
    expect(sent(files)).to_have_text("200")
    expect(pressed(page, "post_v1_batches")).to_have_text("200")

    # A request that runs.
    asked = opened(page, "post_v1_completions")
    asked.locator("textarea").fill(json.dumps({"prompt": json.dumps({"first_token_s": 60})}))
    sent(asked)
    expect(pressed(page, "post_v1_requests_id_cancel")).to_have_text("200")


COMPUTES_MS = 90_000
"""How long a model may take on a machine that does other things."""


@pytest.mark.model
def test_examples_with_files_are_answered(studio_server: Server, open_page: OpenPage) -> None:
    page = open_page(studio_server)
    show(page, studio_server, FILES)
    for path, file in FILES.items():
        part = opened(page, f"post{path}".replace("/", "_"))
        chosen(part, *file)
        expect(sent(part)).to_have_text("200", timeout=COMPUTES_MS)
