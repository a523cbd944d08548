"""Every file that a request shows becomes its bytes, within the limits of one request."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from anyio import to_thread

from mlx_server.app.config.settings import MediaAccess
from mlx_server.app.media.files import read_file
from mlx_server.app.media.inline import decode
from mlx_server.app.media.kept_files import read_kept
from mlx_server.app.media.problem import MediaProblem, TooLarge
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Document, Media, Remote
from mlx_server.schemas.internal.media import check_type

if TYPE_CHECKING:
    from mlx_server.app.files.file_store import FileStore
    from mlx_server.app.media.fetch import Fetcher

AT_ONCE = 4
"""Files of one request that are fetched at the same time."""

AT_ONCE_IN_ALL = 32
TIMES_EACH = 4
"""How often a file may be shown on average. What a model's processor makes of a picture is held as often as it is
shown, and is far larger than the file."""

LARGE_CHARS = 1 << 16
"""Longer data URLs are decoded in a thread."""


File = Media | Document


class Budget:
    """The bytes that all files of one request may have. Raises MediaProblem when they are spent."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._remaining = most_bytes

    def spend(self, count: int) -> None:
        """Count so many bytes."""
        self._remaining -= count
        if self._remaining < 0:
            raise MediaProblem(f"the request's files are larger than {self._most} bytes in all (--max-body-bytes)")


def any_address(address: str) -> bool:
    """Allow it."""
    return True


class MediaReader:
    """Reads files for requests. `most_bytes` is what all files of one request may have: what it may have itself.

    `files` are those that clients keep here, if they may.
    """

    def __init__(
        self, access: MediaAccess, most_bytes: int, fetcher: Fetcher | None = None, files: FileStore | None = None
    ) -> None:
        self._access = access
        self._most_bytes = most_bytes
        self._fetcher = fetcher
        self._files = files
        self._semaphore = asyncio.Semaphore(AT_ONCE_IN_ALL)

    async def read(self, media: Sequence[File], owner: str = "") -> dict[Remote, bytes]:
        """The files, each of which is read once, but counts as often as it is shown: so it travels to the worker.

        `owner` is whose kept files may be among them. Raises InvalidRequest for the first that can't be had.
        """
        access = self._access
        distinct: dict[Remote | bytes, File] = {}
        for one in media:
            distinct.setdefault(one.source, one)
        if len(distinct) > access.max_files:
            param = list(distinct.values())[access.max_files].param
            message = f"`{param}`: at most {access.max_files} files are allowed in a request (--max-media-files)."
            raise InvalidRequest(message, param)
        self._check_shown(media)
        budget, by_source = Budget(self._most_bytes), dict[Remote, File]()
        for one in media:
            if isinstance(one.source, Remote):
                by_source.setdefault(one.source, one)
            elif len(one.source) > access.max_bytes:
                raise TooLarge(access.max_bytes).about(one)
        semaphore = asyncio.Semaphore(AT_ONCE)
        deadline = asyncio.get_running_loop().time() + access.timeout_s
        try:
            async with asyncio.TaskGroup() as group:
                reading = {
                    source: group.create_task(self._one(source.url, one, owner, budget, semaphore, deadline))
                    for source, one in by_source.items()
                }
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        files = {source: task.result() for source, task in reading.items()}
        self._check_total(media, files)
        return files

    def _check_shown(self, media: Sequence[File]) -> None:
        """Raises InvalidRequest if files are shown too often; the one that is shown most is to blame."""
        most = TIMES_EACH * self._access.max_files
        if len(media) <= most:
            return
        ((source, _),) = Counter(one.source for one in media).most_common(1)
        param = next(one.param for one in reversed(media) if one.source == source)
        message = f"`{param}`: files may be shown at most {most} times in a request ({TIMES_EACH} * --max-media-files)."
        raise InvalidRequest(message, param)

    def _check_total(self, media: Sequence[File], files: Mapping[Remote, bytes]) -> None:
        """Raises InvalidRequest if files are shown so often that they are too much together."""
        budget = Budget(self._most_bytes)
        for one in media:
            try:
                budget.spend(len(files[one.source] if isinstance(one.source, Remote) else one.source))
            except MediaProblem as problem:
                raise problem.about(one) from None

    async def _one(
        self, url: str, media: File, owner: str, budget: Budget, semaphore: asyncio.Semaphore, deadline: float
    ) -> bytes:
        """One file. Raises InvalidRequest."""
        try:
            async with asyncio.timeout_at(deadline), semaphore:
                return await self._get(url, media, owner, budget)
        except TimeoutError:
            problem = MediaProblem(f"it took longer than {self._access.timeout_s:g} seconds (--media-timeout)")
            raise problem.about(media) from None
        except MediaProblem as problem:
            raise problem.about(media) from None

    async def _get(self, url: str, media: File, owner: str, budget: Budget) -> bytes:
        most = self._access.max_bytes
        match url[:8].partition(":")[0].lower():
            case "data":
                if isinstance(media, Media):
                    check_type(url, media.kind, media.param)
                data = await to_thread.run_sync(decode, url, most) if len(url) > LARGE_CHARS else decode(url, most)
            case "file":
                data = await to_thread.run_sync(read_file, self._access.directory, url, most)
            case "http" | "https":
                return await self._fetch(url, most, budget)
            case "file_id":
                data = await read_kept(self._files, url.partition(":")[2], owner, most)
            case _:
                raise MediaProblem("only http, https, file and data URLs, and base64, are allowed")
        budget.spend(len(data))
        return data

    async def _fetch(self, url: str, most: int, budget: Budget) -> bytes:
        if not self._access.urls:
            raise MediaProblem("this server fetches no URLs (--no-media-urls); send the file's base64 data")
        if self._fetcher is None:
            # Needed by few servers, and it takes a while to load.
            from mlx_server.app.media.fetch import Fetcher

            self._fetcher = Fetcher(any_address) if self._access.private_urls else Fetcher()
        async with self._semaphore:
            return await self._fetcher.fetch(url, most, budget.spend)
