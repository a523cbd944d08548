"""Documents in conversations: what stands round their text, and messages with the text and pictures in its place."""

from __future__ import annotations

from collections.abc import Container, Mapping
from html import escape
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from mlx_server.schemas.internal.generation import ChatPrompt, Document, GenerationRequest, Media, Message, Prompt
from mlx_server.schemas.internal.work import Work


class Illustrated(msgspec.Struct, frozen=True):
    """A text with pictures in it: the bytes of each, and the character before which it stands."""

    text: str
    pictures: tuple[tuple[int, bytes], ...] = ()


Texts = Mapping[Document, str | Illustrated]
WorkOrPrompt = TypeVar("WorkOrPrompt", bound=Work | Prompt)


def frame(name: str, **facts: str | None) -> tuple[str, str]:
    """What stands before and after a text that a client gave as a thing of its own, with what it says of it."""
    attributes = "".join(f' {fact}="{escape(value)}"' for fact, value in facts.items() if value)
    return f"<{name}{attributes}>\n", f"\n</{name}>\n"


ILLUSTRATED_ROLES = ("user", "tool")
"""Whose messages may hold pictures."""


def documents_of(given: Work | Prompt, roles: Container[str] | None = None) -> list[Document]:
    """Every document in the messages of these roles, or of all, in order."""
    if isinstance(given, GenerationRequest):
        return [document for prompt in given.prompts for document in documents_of(prompt, roles)]
    messages = given.messages if isinstance(given, ChatPrompt) else ()
    return [one for message in messages if roles is None or message.role in roles for one in message.documents]


def with_texts(given: WorkOrPrompt, texts: Texts) -> WorkOrPrompt:
    """The same with each document's text in its place."""
    if not documents_of(given):
        return given
    if isinstance(given, GenerationRequest):
        return replace(given, prompts=tuple(with_texts(prompt, texts) for prompt in given.prompts))
    assert isinstance(given, ChatPrompt)
    return replace(given, messages=tuple(filled(message, texts) for message in given.messages))


def filled(message: Message, texts: Texts) -> Message:
    """The same message with the text of each document that has one in its place, and all else where it was."""
    remaining: list[Document] = []
    for document in reversed(message.documents):
        if document not in texts:
            remaining.insert(0, document)
            continue
        found, at = texts[document], document.at
        text, pictures = (found, ()) if isinstance(found, str) else (found.text, found.pictures)
        media = (
            *(one for one in message.media if one.at <= at),
            *(Media("image", picture, at + place, document.param, stray=document.stray) for place, picture in pictures),
            *(replace(one, at=one.at + len(text)) for one in message.media if one.at > at),
        )
        marks = tuple(mark + len(text) if mark > at else mark for mark in message.marks)
        message = replace(message, content=message.content[:at] + text + message.content[at:], media=media, marks=marks)
        remaining = [replace(one, at=one.at + len(text)) for one in remaining]
    return replace(message, documents=tuple(remaining)) if message.documents else message
