"""What a template does with media and with texts in lists, found out by trying it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from mlx_server.schemas.internal.generation import MediaKind, Message
from mlx_server.workers.engine.prompt.templates.content import Content, ContentForm, Marked
from mlx_server.workers.engine.prompt.templates.conversation import to_dicts
from mlx_server.workers.engine.prompt.templates.kinds import ChatTemplate, Conversation
from mlx_server.workers.engine.prompt.templates.tools import Knowledge, probe_call, tried

PROBE = "probe_words"
TEXT = {"type": "text", "text": PROBE}
USER = Message("user", "probe")
KINDS: tuple[MediaKind, ...] = get_args(MediaKind)


def probe_content(template: ChatTemplate, arguments: Mapping[str, Any], marked: Marked | None = None) -> ContentForm:
    """How to write what messages say. `marked` is for media that the template does not show; None: it is shown all."""

    def shown(content: Content) -> str:
        return rendered_words(template, arguments, [{"role": "user", "content": content}])

    plain = shown(PROBE)
    if plain and marked is None:
        return ContentForm()
    listed = shown([TEXT])
    kinds = KINDS if marked else ()
    shows = frozenset(kind for kind in kinds if shown([{"type": kind}, TEXT]) not in ("", listed))
    lists = roles_in_lists(template, arguments) if not plain and (shows or listed) else frozenset[str]()
    return ContentForm(lists, marked, shows)


def roles_in_lists(template: ChatTemplate, arguments: Mapping[str, Any]) -> frozenset[str]:
    """The roles whose texts are read in lists only, where the user's are."""
    user = {"role": "user", "content": [{"type": "text", "text": "probe"}]}
    others: dict[str, list[dict[str, Any]]] = {
        "system": [{"role": "system", "content": PROBE}, user],
        "assistant": [user, {"role": "assistant", "content": PROBE}, user],
    }
    texts = {role for role, messages in others.items() if rendered_words(template, arguments, messages)}
    return frozenset({"user", "tool", *others} - texts)


def rendered_words(template: ChatTemplate, arguments: Mapping[str, Any], messages: list[dict[str, Any]]) -> str:
    """The prompt; nothing where PROBE is not shown in it."""
    text = tried(template, Conversation(messages, None, arguments))
    # A template that expects text prints a list as Python does.
    return "" if "{'type'" in text or PROBE not in text else text


def kinds_in_results(
    template: ChatTemplate, arguments: Mapping[str, Any], knows: Knowledge, form: ContentForm
) -> frozenset[MediaKind]:
    """The media that it shows in tools' results."""
    call, result = probe_call(knows, form)
    before = [*to_dicts([USER], knows, form=form), call]

    def shown(content: Content) -> str:
        return rendered_words(template, arguments, [*before, {**result, "content": content}])

    listed = shown([TEXT])
    return frozenset(kind for kind in KINDS if shown([{"type": kind}, TEXT]) not in ("", listed))
