"""One file of a repository, on its way into the hub's cache: resumed where it was left, and verified.

The hub's own client starts a file from nothing after a kill, so its bytes are fetched here; where they are kept, and
under which lock, is as its client has it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from mlx_server.workers.hub.errors import ChecksumMismatch, DownloadBroken
from mlx_server.workers.hub.files import RepoFile

SILENCE_S = 30.0
ATTEMPTS = 5
"""Times in a row that a connection may break without anything new."""

FIRST_PAUSE_S = 0.5

Arrived = Callable[[int], None]
"""Is told of bytes as they arrive; of fewer than none when what had arrived is dropped."""


def partial(blob: Path) -> Path:
    """Where a file is kept until it is whole."""
    return blob.with_name(f"{blob.name}.incomplete")


def size_of(path: Path) -> int:
    """How many bytes are there; 0 where nothing is."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def fetch_blob(file: RepoFile, url: str, headers: dict[str, str], blob: Path, arrived: Arrived) -> None:
    """Go on with `blob`'s partial file until it is whole, then put it in its place.

    Raises DownloadBroken, ChecksumMismatch, or what the hub's client raises for a refusal.
    """
    import httpx2

    rest = partial(blob)
    failures = 0
    while (before := size_of(rest)) < file.size:
        try:
            receive(file, url, headers, rest, arrived)
        except httpx2.TransportError as error:
            failures = failures + 1 if size_of(rest) <= before else 1
            if failures >= ATTEMPTS:
                raise DownloadBroken(file.path, type(error).__name__) from None
            time.sleep(FIRST_PAUSE_S * 2 ** (failures - 1))
    rest.touch()
    verify(file, rest)
    rest.replace(blob)


def receive(file: RepoFile, url: str, headers: dict[str, str], rest: Path, arrived: Arrived) -> None:
    """One answer's bytes, behind those that are there. Returns at its end, whole or not."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import hf_raise_for_status

    start = size_of(rest)
    # Compressed bytes could not be gone on with.
    asked = {**headers, "Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with get_session().stream("GET", url, headers=asked, timeout=SILENCE_S, follow_redirects=True) as response:
        hf_raise_for_status(response)
        with rest.open("ab", buffering=0) as output:
            if start and response.status_code != 206:
                output.truncate(0)
                output.seek(0)
                arrived(-start)
            write(file, response, output, arrived)


def write(file: RepoFile, response: Any, output: FileIO, arrived: Arrived) -> None:
    """The answer's bytes, as many as there should be. Raises DownloadBroken for more, or for an early end."""
    done = output.tell()
    for chunk in response.iter_bytes():
        done += len(chunk)
        if done > file.size:
            raise DownloadBroken(file.path, f"more than its {file.size} bytes came")
        output.write(chunk)
        arrived(len(chunk))
    if done < file.size:
        raise DownloadBroken(file.path, f"{done} of its {file.size} bytes came")


def verify(file: RepoFile, path: Path) -> None:
    """Compare with what the hub says it is. Raises ChecksumMismatch, and removes it."""
    with path.open("rb") as data:
        found = checksum(data, file)
    if found != file.etag:
        path.unlink()
        raise ChecksumMismatch(file.path, file.etag, found)


def checksum(data: BufferedReader, file: RepoFile) -> str:
    """SHA-256 of a large file's bytes; of a small one's what git names it by (git-scm.com, "Git Objects")."""
    if file.large:
        return hashlib.file_digest(data, "sha256").hexdigest()
    content = data.read()
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content), usedforsecurity=False).hexdigest()
