"""Documents in conversations: what stands round their text, and messages with the text in its place."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from msgspec.structs import replace

from mlx_server.schemas.generation import ChatPrompt, Document, Message, Prompt

Texts = Mapping[Document, str]


def frame(name: str, **facts: str | None) -> tuple[str, str]:
    """What stands before and after a text that a client gave as a thing of its own, with what it says of it."""
    told = "".join(f' {fact}="{escape(value)}"' for fact, value in facts.items() if value)
    return f"<{name}{told}>\n", f"\n</{name}>\n"


def documents_of(prompt: Prompt) -> list[Document]:
    """Every document, in order."""
    messages = prompt.messages if isinstance(prompt, ChatPrompt) else ()
    return [document for message in messages for document in message.documents]


def with_texts(prompt: Prompt, texts: Texts) -> Prompt:
    """The same prompt with each document's text in its place."""
    if not documents_of(prompt):
        return prompt
    assert isinstance(prompt, ChatPrompt)
    return replace(prompt, messages=tuple(filled(message, texts) for message in prompt.messages))


def filled(message: Message, texts: Texts) -> Message:
    """The same message with each document's text in its place, and its pictures where they were."""
    for document in reversed(message.documents):
        text, at = texts[document], document.at
        media = tuple(replace(one, at=one.at + len(text)) if one.at > at else one for one in message.media)
        marks = tuple(mark + len(text) if mark > at else mark for mark in message.marks)
        message = replace(message, content=message.content[:at] + text + message.content[at:], media=media, marks=marks)
    return replace(message, documents=()) if message.documents else message
