"""`/docs` in a real browser: examples that are sent by a press, and ids of what that made."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect
from support.running.servers import Server

OpenPage = Callable[..., Page]


def pressed(page: Page, operation: str) -> Locator:
    """The status that an operation's example is answered with, sent as it stands."""
    part = page.locator(f"[id$='-{operation}']")
    part.locator(".opblock-summary-control").click()
    part.get_by_role("button", name="Try it out").click()
    part.get_by_role("button", name="Execute").click()
    return part.locator(".live-responses-table tbody .response-col_status")


def test_what_was_made_is_named_where_something_can_be_done_with_it(
    scripted_server: Server, open_page: OpenPage
) -> None:
    page = open_page(scripted_server)
    page.goto(f"{scripted_server.root}/docs")
    for operation in ("post_v1_uploads", "post_v1_uploads_id_cancel"):
        expect(pressed(page, operation)).to_have_text("200")
