"""The pictures, sounds and films of requests: all of them, and the same request with others in their places."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, assert_never

from msgspec.structs import replace

from mlx_server.schemas.embedding import EmbeddingInput, EmbeddingRequest, ScoreRequest, Work
from mlx_server.schemas.generation import ChatPrompt, GenerationRequest, Media, Message, Prompt, TextPrompt, TokenPrompt

Change = Callable[[Media], Media]
Shown = TypeVar("Shown", bound=Work | Prompt)
Holder = TypeVar("Holder", Message, EmbeddingInput)


def media_of(given: Work | Prompt) -> list[Media]:
    """Every picture, sound and film, in order."""
    match given:
        case GenerationRequest():
            return [media for prompt in given.prompts for media in media_of(prompt)]
        case EmbeddingRequest():
            return [media for one in given.inputs for media in one.media]
        case ChatPrompt():
            return [media for message in given.messages for media in message.media]
        case ScoreRequest() | TextPrompt() | TokenPrompt():
            return []
        case _:
            assert_never(given)


def with_media(given: Shown, change: Change) -> Shown:
    """The same with each picture, sound and film changed; `change` is called in the order of `media_of`."""
    match given:
        case GenerationRequest():
            return replace(given, prompts=tuple(with_media(prompt, change) for prompt in given.prompts))
        case EmbeddingRequest():
            return replace(given, inputs=tuple(changed(one, change) for one in given.inputs))
        case ChatPrompt():
            return replace(given, messages=tuple(changed(message, change) for message in given.messages))
    return given


def changed(holder: Holder, change: Change) -> Holder:
    """The same message or input."""
    return replace(holder, media=tuple(map(change, holder.media))) if holder.media else holder
