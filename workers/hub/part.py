"""A part of a repository: of its weights some files, and of the others the headers alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_server.workers.folders.safetensors_header import MAX_HEADER_BYTES
from mlx_server.workers.hub.access import HubAccess
from mlx_server.workers.hub.blob import SILENCE_S
from mlx_server.workers.hub.errors import DownloadBroken, HubError, HubOffline, hub_errors
from mlx_server.workers.hub.files import RepoFile
from mlx_server.workers.hub.snapshot import Report, blobs_of, cached_snapshot, fetch_files, listed

FOLDER = "parts"
LENGTH_BYTES = 8
USUAL_HEADER_BYTES = 64 << 10


@dataclass(frozen=True)
class Part:
    """What of a repository is wanted: in a folder in which weights are headers with a hole behind them, `read` says
    which of these files are read. `name` is that of the folder."""

    name: str
    read: Callable[[Path], set[str]]


def fetch_part(repo_id: str, access: HubAccess, report: Report, cache_dir: Path, part: Part) -> Path:
    """A folder below `cache_dir` with all files of a repository, of which those have their tensors that are read. What
    comes is kept in the hub's cache, and shared with others.

    Without a connection what there is of an earlier time is given, the whole of it or the same part. Raises HubError,
    and what `read` raises.
    """
    folder = cache_dir / FOLDER / blobs_of(repo_id, access).parent.name / part.name
    try:
        revision, files = listed(repo_id, access)
    except HubOffline:
        earlier = cached_snapshot(repo_id, access) or (folder if folder.exists() else None)
        if earlier is None:
            raise
        return earlier
    weights = [file for file in files if "/" not in file.path and file.path.endswith(".safetensors")]
    made = folder.with_name(f"{part.name}.{os.getpid()}")
    try:
        with hub_errors(repo_id):
            fetch_files(repo_id, revision, [file for file in files if file not in weights], access, report)
            lay_out(made, repo_id, revision, files, access)
            read = part.read(made)
            fetch_files(repo_id, revision, [file for file in weights if file.path in read], access, report)
            lay_out(made, repo_id, revision, files, access)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    except OSError as error:
        # The hub's own errors are OSErrors, too.
        if not error.strerror:
            raise
        raise HubError(f"{repo_id} can't be kept in {folder} and {access.cache}: {error.strerror}") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def lay_out(folder: Path, repo_id: str, revision: str, files: Sequence[RepoFile], access: HubAccess) -> None:
    """Make the folder: links to the files that are in the cache, and of the others the headers."""
    blobs = blobs_of(repo_id, access)
    for file in files:
        place, blob = folder / file.path, blobs / file.etag
        place.parent.mkdir(parents=True, exist_ok=True)
        if blob.exists():
            place.unlink(missing_ok=True)
            place.symlink_to(blob)
        elif not place.exists():
            header = fetch_header(repo_id, revision, file, access)
            with place.open("wb") as output:
                output.write(header)
                output.truncate(file.size)


def fetch_header(repo_id: str, revision: str, file: RepoFile, access: HubAccess) -> bytes:
    """The beginning of a file of tensors, which names them. Raises HubError or what the hub's client raises."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(repo_id, file.path, revision=revision, endpoint=access.endpoint)
    headers = build_hf_headers(token=access.token)
    found = fetch_beginning(url, headers, LENGTH_BYTES + USUAL_HEADER_BYTES)
    length = LENGTH_BYTES + int.from_bytes(found[:LENGTH_BYTES], "little")
    if length > min(file.size, MAX_HEADER_BYTES):
        raise DownloadBroken(file.path, "it is no safetensors file")
    if len(found) < length:
        found = fetch_beginning(url, headers, length)
    if len(found) < length:
        raise DownloadBroken(file.path, "its header was cut off")
    return found[:length]


def fetch_beginning(url: str, headers: dict[str, str], count: int) -> bytes:
    """The first bytes of a file, `count` or more where it has so many. Raises what the hub's client raises."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import hf_raise_for_status

    asked = {**headers, "Accept-Encoding": "identity", "Range": f"bytes=0-{count - 1}"}
    found = b""
    with get_session().stream("GET", url, headers=asked, timeout=SILENCE_S, follow_redirects=True) as response:
        hf_raise_for_status(response)
        # Not all servers know ranges.
        for piece in response.iter_bytes():
            found += piece
            if len(found) >= count:
                break
    return found
