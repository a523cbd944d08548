"""The text of clients' documents: PDFs are read in a process that can be killed."""

from __future__ import annotations

import asyncio
import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial

from anyio import to_thread

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Document, Remote
from mlx_server.workers.engine.sandbox.host import KillableProcess, Stopped

CHILD = "mlx_server.app.media.document_child"
MOST_PAGES = 1000
MOST_CHARACTERS = 8 << 20
MEMORY_BYTES = 1 << 30

AT_ONCE = 2
"""PDFs of all requests that are read at the same time."""

CACHED_CHARACTERS = 16 << 20
"""Of PDFs that were read: a conversation shows them again with each turn."""

MARK, MARK_WITHIN = b"%PDF-", 1024
"""A PDF's mark, and the bytes at its beginning where it may stand."""

NO_TEXT = "this is neither a PDF nor a text in UTF-8"
ONLY_PICTURES = "this PDF has no text; send its pages as pictures"


class DocumentReader:
    """Reads documents. `limit_s` are the seconds that one may take."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._semaphore = asyncio.Semaphore(AT_ONCE)
        self._texts: OrderedDict[bytes, str] = OrderedDict()
        self._characters = 0

    async def texts(
        self, documents: Sequence[Document], files: Mapping[Remote, bytes], owner: str
    ) -> dict[Document, str]:
        """The text of each, whose files are there or among `files`. Raises InvalidRequest for the first without."""
        return {one: await self.text(file_of(one, files), one.param, owner) for one in documents}

    async def text(self, file: bytes, param: str, owner: str) -> str:
        """What a PDF or a text file says; `param` names it in a refusal. Nobody but its `owner` can tell that it was
        read before. Raises InvalidRequest."""
        if MARK not in file[:MARK_WITHIN]:
            return plain_text(file, param)
        digest = hashlib.blake2b(file, digest_size=16, key=hashlib.sha256(owner.encode()).digest()).digest()
        text = self._texts.pop(digest, None)
        if text is None:
            text = await self._read(file, param)
        else:
            self._characters -= len(text)
        self._keep(digest, text)
        return text

    async def _read(self, file: bytes, param: str) -> str:
        """Raises InvalidRequest. The process ends as soon as nobody waits."""
        left = threading.Event()
        try:
            async with self._semaphore:
                return await to_thread.run_sync(
                    partial(read_pdf, file, param, self._limit_s, left), abandon_on_cancel=True
                )
        finally:
            left.set()

    def _keep(self, digest: bytes, text: str) -> None:
        """Have it be the latest; two requests may have read the same."""
        self._characters += len(text) - len(self._texts.pop(digest, ""))
        self._texts[digest] = text
        while self._characters > CACHED_CHARACTERS and len(self._texts) > 1:
            _, dropped = self._texts.popitem(last=False)
            self._characters -= len(dropped)


def file_of(document: Document, files: Mapping[Remote, bytes]) -> bytes:
    """The bytes of a document."""
    return files[document.source] if isinstance(document.source, Remote) else document.source


def plain_text(file: bytes, param: str) -> str:
    """A text file's text. Raises InvalidRequest for what is no text."""
    try:
        text = file.decode("utf-16" if file[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InvalidRequest(f"`{param}`: {NO_TEXT}.", param)
    return text


def read_pdf(file: bytes, param: str, limit_s: float, left: threading.Event) -> str:
    """The text of a PDF's pages. Raises InvalidRequest, also once it is not waited for."""
    process = KillableProcess(
        CHILD,
        limit_s=limit_s,
        cpu_s=math.ceil(limit_s),
        memory_bytes=MEMORY_BYTES,
        greeting={"most_pages": MOST_PAGES, "most_characters": MOST_CHARACTERS},
        max_answer=4 * MOST_CHARACTERS + 1024,
    )
    try:
        answer = process.ask({"file": file}, process.deadline(), left.is_set)
    except Stopped as error:
        raise InvalidRequest(f"`{param}`: this PDF can't be read: reading it {error}.", param) from None
    finally:
        process.close()
    if "refused" in answer:
        raise InvalidRequest(f"`{param}`: {answer['refused']}.", param)
    text: str = answer["text"]
    if not text.strip():
        raise InvalidRequest(f"`{param}`: {ONLY_PICTURES}.", param)
    return text
