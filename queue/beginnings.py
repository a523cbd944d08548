"""Beginnings of prompts, and which of them a replica knows.

The front end has texts, not tokens: a prompt is cut into blocks, each with a hash of all that stands before its end.
What a worker really keeps is for it to say; this is a guess that costs microseconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar, assert_never

import msgspec

from mlx_server.schemas.internal.generation import (
    ChatPrompt,
    GenerationRequest,
    Media,
    Message,
    Prompt,
    TextPrompt,
    TokenPrompt,
)
from mlx_server.schemas.internal.work import Work

BLOCK = 512
"""Characters of a text that are known together, or not."""

PER_TOKEN = 4
"""Characters that a token is taken to have."""

PER_FILE = 2000
"""Characters that a picture, a sound or a film counts like."""

TELLING = 256
"""The last bytes of a file tell it from others of its length, well enough for a guess."""

LEAST = 64
"""Characters: workers take over no beginning that is shorter."""

MOST_BLOCKS = 1 << 14
"""That are remembered of one replica."""


T = TypeVar("T")

Readers = dict[int, dict[T, None]]
"""Who knows the beginning with a key, in the order in which they came to know it."""


class Beginning(NamedTuple):
    """A prompt up to the end of one of its blocks, which has `size` characters. Who has read it knows `known`
    characters of the prompt: those so far, and of an answer that follows all, since whoever read the question wrote
    it."""

    key: int
    size: int
    known: int


class Block(NamedTuple):
    """A piece of a prompt: what tells it from others, its characters, and whether a model wrote it."""

    what: Hashable
    size: int
    written: bool = False


def beginnings_of(request: Work) -> tuple[Beginning, ...]:
    """Those of a request's first prompt that are worth it, the shortest first; none of a request that uses no cache."""
    if not isinstance(request, GenerationRequest) or not request.use_cache:
        return ()
    key, end = hash((request.tenant, request.salt, request.adapter)), 0
    found: list[tuple[Block, int, int]] = []
    for block in _blocks(request.prompts[0]):
        key, end = hash((key, block.what)), end + block.size
        found.append((block, key, end))
    beginnings: list[Beginning] = []
    answer = None
    for block, key, end in reversed(found):
        known = end if answer is None else answer
        beginnings.append(Beginning(key, block.size, known))
        answer = known if block.written else None
    return tuple(one for one in reversed(beginnings) if one.known >= LEAST)


def _blocks(prompt: Prompt) -> Iterator[Block]:
    match prompt:
        case ChatPrompt():
            # What stands at the head of a conversation, whatever its template makes of it.
            tools = msgspec.json.encode(prompt.tools)
            yield Block((tools, msgspec.json.encode(prompt.template)), len(tools) if prompt.tools else 0)
            for message in prompt.messages:
                yield from _blocks_of(message)
        case TextPrompt():
            yield from _cut(prompt.text, BLOCK)
        case TokenPrompt():
            yield from _cut(prompt.ids, BLOCK // PER_TOKEN, PER_TOKEN)
        case _:
            assert_never(prompt)


def _blocks_of(message: Message) -> Iterator[Block]:
    written = message.role == "assistant"
    calls = msgspec.json.encode(message.tool_calls) if message.tool_calls else b""
    files = tuple(map(_file, message.media))
    what = message.role, message.name, message.tool_call_id, calls, files
    yield Block(what, len(calls) + PER_FILE * len(files), written)
    yield from _cut(message.content, BLOCK, written=written)


def _file(media: Media) -> Hashable:
    source = media.source
    return media.kind, media.at, (len(source), source[-TELLING:]) if isinstance(source, bytes) else source


def _cut(text: str | tuple[int, ...], length: int, weight: int = 1, *, written: bool = False) -> Iterator[Block]:
    for start in range(0, len(text), length):
        piece = text[start : start + length]
        yield Block(piece, weight * len(piece), written)


class KnownBeginnings(Generic[T]):
    """What one replica has been given to read, the most recent `limit` characters; the least recently used are
    forgotten first, and of a prompt its end before its beginning. `readers` is told what the replica, `whose`, knows.
    """

    def __init__(self, whose: T, readers: Readers[T]) -> None:
        self.limit = 0
        self._whose = whose
        self._readers = readers
        self._sizes: OrderedDict[int, int] = OrderedDict()
        self._characters = 0

    def longest(self, beginnings: Sequence[Beginning]) -> int:
        """Characters of a prompt that are known."""
        if not beginnings or beginnings[0].key not in self._sizes:
            return 0
        # Who knows one knows all that are shorter.
        count = bisect_left(beginnings, True, key=lambda one: one.key not in self._sizes)
        return beginnings[count - 1].known

    def forgotten_for(self, characters: int) -> int:
        """How many characters are forgotten once so many more have been read."""
        return max(0, self._characters + characters - self.limit)

    def add(self, beginnings: Sequence[Beginning]) -> None:
        """A prompt is being read there."""
        for one in reversed(beginnings):
            self._characters += one.size - self._sizes.pop(one.key, 0)
            self._sizes[one.key] = one.size
            self._readers.setdefault(one.key, {})[self._whose] = None
        while self._sizes and (self._characters > self.limit or len(self._sizes) > MOST_BLOCKS):
            self._forget()

    def clear(self) -> None:
        """The replica knows nothing any more."""
        while self._sizes:
            self._forget()

    def _forget(self) -> None:
        key, size = self._sizes.popitem(last=False)
        self._characters -= size
        del self._readers[key][self._whose]
        if not self._readers[key]:
            del self._readers[key]
