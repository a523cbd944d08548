"""What a message says, as templates take it: a text, or a list of texts and places for media."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from mlx_server.schemas.internal.generation import Media, MediaKind, Message

Part = dict[str, Any]
Content = str | list[Part]

NO_TEXT: Part = {"type": "text", "text": ""}
"""Stands for a message that says nothing: templates may look for its first part."""

Marked = Callable[[Message], Content]
"""A message's content with a model's own marks for its media."""


@dataclass(frozen=True)
class ContentForm:
    """What a template does with content. `lists`: the roles whose texts it reads in lists only. `marked` writes the
    messages that have media of other kinds than those that the template `shows`; without it, it is given all."""

    lists: frozenset[str] = frozenset()
    marked: Marked | None = None
    shows: frozenset[MediaKind] = frozenset()

    def of(self, message: Message) -> Content:
        """What the message says."""
        if message.media:
            shown = all(one.kind in self.shows for one in message.media)
            return parts(message) if shown or self.marked is None else self.marked(message)
        return parts(message) or [NO_TEXT] if message.role in self.lists else message.content


def parts(message: Message) -> list[Part]:
    """Its text, cut where its media stand."""
    made: list[Part] = []
    done = 0
    for media in message.media:
        made += texts(message.content[done : media.at])
        made.append({"type": media.kind})
        done = media.at
    return made + texts(message.content[done:])


def texts(text: str) -> list[Part]:
    """A part for a text that is one."""
    return [{"type": "text", "text": text}] if text else []


def joined(first: Content, second: Content) -> Content:
    """One after the other; texts that meet become one."""
    if isinstance(first, str) and isinstance(second, str):
        return first + second
    before, after = as_list(first), as_list(second)
    if before and after and before[-1]["type"] == after[0]["type"] == "text":
        return [*before[:-1], *texts(before[-1]["text"] + after[0]["text"]), *after[1:]]
    return before + after


def as_list(content: Content) -> list[Part]:
    """The content as a list."""
    return texts(content) if isinstance(content, str) else content


def wrapped(message: Message, before: str, after: str) -> Message:
    """The message with texts round its own; its media stay where they are in that."""
    content = f"{before}{message.content}{after}"
    return msgspec.structs.replace(message, content=content, media=moved(message.media, len(before)))


def appended(first: Message, second: Message, between: str = "") -> Message:
    """The first message with what the second says and shows after it; `between` two texts stands that."""
    content = between.join(text for text in (first.content, second.content) if text)
    media = first.media + moved(second.media, len(content) - len(second.content))
    return msgspec.structs.replace(first, content=content, media=media)


def moved(media: tuple[Media, ...], by: int) -> tuple[Media, ...]:
    """Media in a text that so many characters have come before."""
    return tuple(msgspec.structs.replace(one, at=one.at + by) for one in media)
