"""The pictures, sounds and films of requests: all of them, and the same request with others in their places."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

from msgspec.structs import replace

from mlx_server.schemas.internal.documents import WorkOrPrompt
from mlx_server.schemas.internal.embedding import EmbeddingInput, EmbeddingRequest
from mlx_server.schemas.internal.generation import (
    ChatPrompt,
    GenerationRequest,
    Media,
    MediaKind,
    Message,
    Prompt,
)
from mlx_server.schemas.internal.work import Work

UNSEEN: dict[MediaKind, str] = {
    "image": "[An image is here; this model can't see images.]",
    "audio": "[A sound is here; this model can't hear sounds.]",
    "video": "[A film is here; this model can't watch films.]",
}
"""What a model is told in the place of what a tool shows it."""

Change = Callable[[Media], Media]
MediaHolder = TypeVar("MediaHolder", Message, EmbeddingInput)


def media_of(given: Work | Prompt) -> list[Media]:
    """Every picture, sound and film, in order."""
    match given:
        case GenerationRequest():
            return [media for prompt in given.prompts for media in media_of(prompt)]
        case EmbeddingRequest():
            return [media for one in given.inputs for media in one.media]
        case ChatPrompt():
            return [media for message in given.messages for media in message.media]
    return []


def with_media(given: WorkOrPrompt, change: Change) -> WorkOrPrompt:
    """The same with each picture, sound and film changed; `change` is called in the order of `media_of`."""
    match given:
        case GenerationRequest():
            return replace(given, prompts=tuple(with_media(prompt, change) for prompt in given.prompts))
        case EmbeddingRequest():
            return replace(given, inputs=tuple(changed(one, change) for one in given.inputs))
        case ChatPrompt():
            return replace(given, messages=tuple(changed(message, change) for message in given.messages))
    return given


def without_unseen(given: WorkOrPrompt, kinds: Collection[MediaKind]) -> WorkOrPrompt:
    """The same with words in the place of what a tool gave that is of no such kind: the model has no eyes or ears for
    it, and the conversation goes on. A request says in `ignored` what that was."""
    if isinstance(given, GenerationRequest):
        prompts = tuple(without_unseen(prompt, kinds) for prompt in given.prompts)
        ignored = tuple(one.param for prompt in given.prompts for one in unseen(prompt, kinds))
        return replace(given, prompts=prompts, ignored=given.ignored + ignored) if ignored else given
    if isinstance(given, ChatPrompt) and unseen(given, kinds):
        return replace(given, messages=tuple(only_seen_results(message, kinds) for message in given.messages))
    return given


def unseen(prompt: Prompt, kinds: Collection[MediaKind]) -> list[Media]:
    """What tools gave that is of no such kind."""
    messages = prompt.messages if isinstance(prompt, ChatPrompt) else ()
    return [one for message in messages for one in message.media if message.of_tool(one) and one.kind not in kinds]


def only_seen_results(message: Message, kinds: Collection[MediaKind]) -> Message:
    """A message with media of these kinds only, of those that tools gave."""
    return replace_media(
        message, lambda one: UNSEEN[one.kind] if message.of_tool(one) and one.kind not in kinds else None
    )


def replace_media(message: Message, says: Callable[[Media], str | None]) -> Message:
    """The message with texts in the place of the media that have one; what else has a place keeps it."""
    text, media, done = "", [], 0
    added: list[tuple[int, int]] = []
    for one in message.media:
        text += message.content[done : one.at]
        done = one.at
        if (said := says(one)) is None:
            media.append(replace(one, at=len(text)))
        else:
            text += said
            added.append((one.at, len(said)))

    def moved(at: int) -> int:
        return at + sum(length for place, length in added if place <= at)

    return replace(
        message,
        content=text + message.content[done:],
        media=tuple(media),
        documents=tuple(replace(one, at=moved(one.at)) for one in message.documents),
        marks=tuple(map(moved, message.marks)),
    )


def changed(holder: MediaHolder, change: Change) -> MediaHolder:
    """The same message or input."""
    return replace(holder, media=tuple(map(change, holder.media))) if holder.media else holder
