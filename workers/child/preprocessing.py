"""The threads that make requests ready for the engine's: files are decoded, then prompts become tokens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mlx_server.schemas.attachments import media_of, with_media, without_unseen
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Prompt
from mlx_server.schemas.internal.picture import PictureRequest
from mlx_server.schemas.internal.sound import TranscriptionRequest
from mlx_server.schemas.internal.work import Work
from mlx_server.schemas.left_out import excuse, without
from mlx_server.workers.child.stopwatch import Stopwatch
from mlx_server.workers.engine.cancellation import IsCancelled
from mlx_server.workers.handlers.base import DECODERS, Handler

Given = TypeVar("Given", bound=Work | Prompt)
Result = TypeVar("Result")


class Preprocessing:
    """One thread has the tokenizer, and others decode, which may take long: nobody else's prompt waits for a picture.

    The methods are for the event loop's thread. Who is cancelled while he waits for one is not begun with; what has
    begun with the tokenizer goes on to its end, and comes to nothing; decoding is given up.
    """

    def __init__(self) -> None:
        self._tokenizer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenizer")
        self._decoders = ThreadPoolExecutor(max_workers=DECODERS, thread_name_prefix="decoder")
        self._tokenizing = Stopwatch()

    @property
    def seconds(self) -> float:
        """How long the tokenizer's thread has been at one prompt; decoding has a limit of its own."""
        return self._tokenizing.seconds

    async def decoded(self, given: Given, handler: Handler) -> Given:
        """The same with its files decoded, but for what tools gave that the model can't see, or that can't be read.
        Raises InvalidRequest, and what decoding does."""
        given = without_unseen(given, handler.kinds)
        while True:
            try:
                return await self._decode(given, handler)
            except InvalidRequest as error:
                if not (words := excuse(given, error)):
                    raise
                given = without(given, words)

    async def opened(self, given: Work, handler: Handler) -> Work:
        """The same with the files decoded that lie on this machine. Raises InvalidRequest."""
        if not isinstance(given, TranscriptionRequest | PictureRequest):
            return given
        return await self._on_decoder(lambda abandoned: handler.open(given, abandoned))

    async def _decode(self, given: Given, handler: Handler) -> Given:
        media = media_of(given)
        if not media:
            return given
        ready = iter(await self._on_decoder(lambda abandoned: handler.decode(media, abandoned)))
        return with_media(given, lambda _: next(ready))

    async def _on_decoder(self, work: Callable[[IsCancelled], Result]) -> Result:
        """What `work` gives, called on a decoder's thread and told when nobody waits any more."""
        over = threading.Event()
        try:
            return await asyncio.wrap_future(self._decoders.submit(work, over.is_set))
        finally:
            over.set()

    async def tokenized(self, work: Callable[[], Result]) -> Result:
        """What `work` gives, called on the tokenizer's thread. Raises what it raises."""
        return await asyncio.wrap_future(self._tokenizer.submit(self._timed, work))

    def _timed(self, work: Callable[[], Result]) -> Result:
        with self._tokenizing:
            return work()
