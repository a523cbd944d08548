"""Requests and prompts with the bytes of files in the place of their addresses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, assert_never

from msgspec.structs import replace

from mlx_server.schemas.embedding import EmbeddingInput, EmbeddingRequest, ScoreRequest, Work
from mlx_server.schemas.generation import ChatPrompt, GenerationRequest, Media, Message, Prompt, Remote

Files = Mapping[Remote, bytes]
Holder = TypeVar("Holder", Message, EmbeddingInput)


def in_work(work: Work, files: Files) -> Work:
    """The same request."""
    match work:
        case GenerationRequest():
            return in_generation(work, files)
        case EmbeddingRequest():
            return in_embedding(work, files)
        case ScoreRequest():
            return work
        case _:
            assert_never(work)


def in_generation(work: GenerationRequest, files: Files) -> GenerationRequest:
    """The same request."""
    return replace(work, prompts=tuple(in_prompt(prompt, files) for prompt in work.prompts))


def in_embedding(work: EmbeddingRequest, files: Files) -> EmbeddingRequest:
    """The same request."""
    return replace(work, inputs=tuple(in_holder(given, files) for given in work.inputs))


def in_prompt(prompt: Prompt, files: Files) -> Prompt:
    """The same prompt."""
    if not isinstance(prompt, ChatPrompt):
        return prompt
    return replace(prompt, messages=tuple(in_holder(message, files) for message in prompt.messages))


def in_holder(holder: Holder, files: Files) -> Holder:
    """The same message or input."""
    return replace(holder, media=tuple(in_media(one, files) for one in holder.media)) if holder.media else holder


def in_media(media: Media, files: Files) -> Media:
    """The same picture, sound or film."""
    return replace(media, source=files[media.source]) if isinstance(media.source, Remote) else media
