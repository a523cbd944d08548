"""What tools gave and can't be shown becomes words: it is sent again with every turn, and must not end a conversation.

What the user shows is never left out: an answer without it would be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec.structs import replace

from mlx_server.schemas.attachments import replace_media
from mlx_server.schemas.internal.documents import WorkOrPrompt, filled
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import (
    ChatPrompt,
    Document,
    GenerationRequest,
    Media,
    Message,
    Prompt,
    Remote,
)
from mlx_server.schemas.internal.work import Work

File = Media | Document
Words = Mapping[bytes | Remote, str]
"""What stands in the place of a file."""

NAMES = {"image": "An image", "audio": "A sound", "video": "A film"}


def files_of(given: Work | Prompt, of_tools: bool) -> list[File]:
    """The files that tools gave in conversations, or all others there, in order."""
    if isinstance(given, GenerationRequest):
        return [one for prompt in given.prompts for one in files_of(prompt, of_tools)]
    messages = given.messages if isinstance(given, ChatPrompt) else ()
    found: list[File] = []
    for message in messages:
        files: list[File] = [*message.media, *message.documents]
        found += [one for one in files if message.of_tool(one) == of_tools]
    return found


def excuse(given: Work | Prompt, refusal: InvalidRequest) -> Words:
    """Words for the file that is to blame, or none where that is the user's own."""
    blamed = next((one for one in files_of(given, of_tools=True) if one.param == refusal.param), None)
    if blamed is None:
        return {}
    reason = refusal.message.removeprefix(f"`{refusal.param}`: ").removesuffix(".")
    return {blamed.source: f"[{name_of(blamed)} is here that can't be shown: {reason}.]"}


def over_limit(given: Work | Prompt, most: int) -> Words:
    """Words for the oldest files where more than `most` different ones are shown.

    They go many at a time, so that the turns after that begin with what is known of the turn before.
    """
    by_users = {one.source for one in files_of(given, of_tools=False)}
    by_tools = {one.source: one for one in files_of(given, of_tools=True) if one.source not in by_users}
    over, step = len(by_users) + len(by_tools) - most, max(most // 2, 1)
    dropped = list(by_tools.items())[: math.ceil(max(over, 0) / step) * step]
    return {source: f"[{name_of(one)} was here that is not shown any more.]" for source, one in dropped}


def name_of(file: File) -> str:
    """What a file is."""
    return "A document" if isinstance(file, Document) else NAMES[file.kind]


def without(given: WorkOrPrompt, words: Words) -> WorkOrPrompt:
    """The same with words in the place of these files, where tools gave them; a request names them in `ignored`."""
    if not words:
        return given
    if isinstance(given, GenerationRequest):
        prompts = tuple(without(prompt, words) for prompt in given.prompts)
        ignored = tuple(one.param for one in files_of(given, of_tools=True) if one.source in words)
        return replace(given, prompts=prompts, ignored=given.ignored + ignored)
    if isinstance(given, ChatPrompt):
        return replace(given, messages=tuple(with_words(message, words) for message in given.messages))
    return given


def with_words(message: Message, words: Words) -> Message:
    """One message, in so far as it is a tool's."""
    message = replace_media(message, lambda one: words.get(one.source) if message.of_tool(one) else None)
    said = {one: words[one.source] for one in message.documents if message.of_tool(one) and one.source in words}
    return filled(message, said)
