"""What a user does in the chat."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Locator, Page


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
