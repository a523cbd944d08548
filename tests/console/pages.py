"""What users do in the console, and by which names they reach it."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Locator, Page

ELSEWHERE = "server.test"
"""A name of this machine that the browser takes for another one's."""


def script(**how: Any) -> str:
    """What the scripted backend is told to do."""
    return json.dumps(how)


def say(page: Page, text: str) -> None:
    """Write a message and send it by the keyboard."""
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def answers(page: Page) -> Locator:
    """The messages of the model."""
    return page.locator("article.assistant")
