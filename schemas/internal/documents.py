"""Documents in conversations: what stands round their text, and messages with the text in its place."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TypeVar

from msgspec.structs import replace

from mlx_server.schemas.internal.embedding import Work
from mlx_server.schemas.internal.generation import ChatPrompt, Document, GenerationRequest, Message, Prompt

Texts = Mapping[Document, str]
WorkOrPrompt = TypeVar("WorkOrPrompt", bound=Work | Prompt)


def frame(name: str, **facts: str | None) -> tuple[str, str]:
    """What stands before and after a text that a client gave as a thing of its own, with what it says of it."""
    attributes = "".join(f' {fact}="{escape(value)}"' for fact, value in facts.items() if value)
    return f"<{name}{attributes}>\n", f"\n</{name}>\n"


def documents_of(given: Work | Prompt) -> list[Document]:
    """Every document, in order."""
    if isinstance(given, GenerationRequest):
        return [document for prompt in given.prompts for document in documents_of(prompt)]
    messages = given.messages if isinstance(given, ChatPrompt) else ()
    return [document for message in messages for document in message.documents]


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
        text, at = texts[document], document.at
        media = tuple(replace(one, at=one.at + len(text)) if one.at > at else one for one in message.media)
        marks = tuple(mark + len(text) if mark > at else mark for mark in message.marks)
        message = replace(message, content=message.content[:at] + text + message.content[at:], media=media, marks=marks)
        remaining = [replace(one, at=one.at + len(text)) for one in remaining]
    return replace(message, documents=tuple(remaining)) if message.documents else message
