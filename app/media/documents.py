"""What clients' documents say and show: PDFs are read in a process that can be killed."""

from __future__ import annotations

import asyncio
import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from anyio import to_thread
from msgspec.structs import asdict, replace

from mlx_server.app.media.document_limits import DocumentLimits
from mlx_server.app.media.problem import MediaProblem
from mlx_server.app.media.reader import Budget
from mlx_server.schemas.internal.documents import Illustrated
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Document, Remote
from mlx_server.workers.engine.sandbox.host import KillableProcess, Stopped

CHILD = "mlx_server.app.media.document_child"
MEMORY_BYTES = 1 << 30

AT_ONCE = 2
"""PDFs of all requests that are read at the same time."""

CACHED_SIZE = 16 << 20
"""Characters, and bytes of pictures, of PDFs that were read: a conversation shows them again with each turn."""

ENVELOPE_BYTES = 1 << 16
"""What an answer may have round its text and pictures."""

MARK, MARK_WITHIN = b"%PDF-", 1024
"""A PDF's mark, and the bytes at its beginning where it may stand."""

NO_TEXT = "this is neither a PDF nor a text in UTF-8"
ONLY_PICTURES = "this PDF has no text; send its pages as pictures"
BLANK = "this PDF has no text and no pictures: its pages are blank"


class DocumentReader:
    """Reads documents. `limit_s` are the seconds that one may take."""

    def __init__(self, limit_s: float, limits: DocumentLimits) -> None:
        self._limit_s = limit_s
        self._limits = limits
        self._semaphore = asyncio.Semaphore(AT_ONCE)
        self._texts: OrderedDict[tuple[bytes, bool], Illustrated] = OrderedDict()
        self._size = 0

    async def texts(
        self,
        documents: Sequence[Document],
        files: Mapping[Remote, bytes],
        owner: str,
        seen: Collection[Document] = (),
    ) -> dict[Document, Illustrated]:
        """The text of each, whose files are there or among `files`; with pictures of pages without text of those that
        are `seen`. Raises InvalidRequest for the first without."""
        budget, texts = Budget(self._limits.most_bytes), {}
        for one in documents:
            text = texts[one] = await self.text(file_of(one, files), one.param, owner, one in seen)
            try:
                budget.spend(sum(len(picture) for _, picture in text.pictures))
            except MediaProblem as problem:
                raise problem.about(one) from None
        return texts

    async def text(self, file: bytes, param: str, owner: str, seen: bool = False) -> Illustrated:
        """What a PDF or a text file says; `param` names it in a refusal. Nobody but its `owner` can tell that it was
        read before. Raises InvalidRequest."""
        if MARK not in file[:MARK_WITHIN]:
            return Illustrated(plain_text(file, param))
        digest = hashlib.blake2b(file, digest_size=16, key=hashlib.sha256(owner.encode()).digest()).digest()
        text = self._texts.pop((digest, seen), None)
        if text is None:
            text = await self._read(file, param, seen)
        else:
            self._size -= size_of(text)
        self._keep((digest, seen), text)
        return text

    async def _read(self, file: bytes, param: str, seen: bool) -> Illustrated:
        """Raises InvalidRequest. The process ends as soon as nobody waits."""
        limits = self._limits if seen else replace(self._limits, most_pictures=0)
        left = threading.Event()
        try:
            async with self._semaphore:
                return await to_thread.run_sync(
                    partial(read_pdf, file, param, self._limit_s, limits, left), abandon_on_cancel=True
                )
        finally:
            left.set()

    def _keep(self, key: tuple[bytes, bool], text: Illustrated) -> None:
        """Have it be the latest; two requests may have read the same."""
        if key in self._texts:
            self._size -= size_of(self._texts.pop(key))
        self._texts[key] = text
        self._size += size_of(text)
        while self._size > CACHED_SIZE and len(self._texts) > 1:
            _, dropped = self._texts.popitem(last=False)
            self._size -= size_of(dropped)


def size_of(text: Illustrated) -> int:
    """Characters, and bytes of pictures."""
    return len(text.text) + sum(len(picture) for _, picture in text.pictures)


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


def read_pdf(file: bytes, param: str, limit_s: float, limits: DocumentLimits, left: threading.Event) -> Illustrated:
    """What a PDF's pages say and show. Raises InvalidRequest, also once it is not waited for."""
    process = KillableProcess(
        CHILD,
        limit_s=limit_s,
        cpu_s=math.ceil(limit_s),
        memory_bytes=MEMORY_BYTES,
        greeting=asdict(limits),
        max_answer=4 * limits.most_characters + limits.most_bytes + ENVELOPE_BYTES,
    )
    try:
        answer = process.ask({"file": file}, process.deadline(), left.is_set)
    except Stopped as error:
        raise InvalidRequest(f"`{param}`: this PDF can't be read: reading it {error}.", param) from None
    finally:
        process.close()
    if "refused" in answer:
        raise InvalidRequest(f"`{param}`: {answer['refused']}.", param)
    text = Illustrated(answer["text"], tuple((at, picture) for at, picture in answer["pictures"]))
    if not (text.text.strip() or text.pictures):
        raise InvalidRequest(f"`{param}`: {BLANK if limits.most_pictures else ONLY_PICTURES}.", param)
    return text
