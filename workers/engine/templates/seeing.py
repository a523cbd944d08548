"""What a template does with media and with texts in lists, found out by trying it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from mlx_server.schemas.generation import MediaKind
from mlx_server.workers.engine.templates.content import Content, ContentForm, Marked
from mlx_server.workers.engine.templates.kinds import ChatTemplate, Conversation
from mlx_server.workers.engine.templates.tools import tried

PROBE = "probe_words"
TEXT = {"type": "text", "text": PROBE}


def probe_content(template: ChatTemplate, arguments: Mapping[str, Any], marked: Marked) -> ContentForm:
    """How to write what messages say. `marked` is for media that the template does not show."""

    def shown(content: Content) -> str:
        text = tried(template, Conversation([{"role": "user", "content": content}], None, arguments))
        # A template that expects text prints a list as Python does.
        return "" if "{'type'" in text or PROBE not in text else text

    listed = shown([TEXT])
    shows = frozenset(kind for kind in get_args(MediaKind) if shown([{"type": kind}, TEXT]) not in ("", listed))
    return ContentForm(lists=not shown(PROBE) and bool(shows or listed), marked=marked, shows=shows)
