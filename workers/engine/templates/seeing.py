"""What a template does with pictures and with texts in lists, found out by trying it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlx_server.workers.engine.templates.content import Content, ContentForm, Marked
from mlx_server.workers.engine.templates.kinds import ChatTemplate, Conversation
from mlx_server.workers.engine.templates.tools import tried

PROBE = "probe_words"
TEXT = {"type": "text", "text": PROBE}
PICTURE = {"type": "image"}


def probe_content(template: ChatTemplate, arguments: Mapping[str, Any], marked: Marked) -> ContentForm:
    """How to write what messages say. `marked` is for a template that shows no pictures."""

    def shown(content: Content) -> str:
        text = tried(template, Conversation([{"role": "user", "content": content}], None, arguments))
        # A template that expects text prints a list as Python does.
        return "" if "{'type'" in text or PROBE not in text else text

    with_picture = shown([PICTURE, TEXT])
    if with_picture and with_picture != shown([TEXT]):
        return ContentForm(lists=not shown(PROBE))
    return ContentForm(lists=not shown(PROBE) and bool(shown([TEXT])), marked=marked)
