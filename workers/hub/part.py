"""A part of a repository: of its weights some files, and of the others the headers alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mlx_server.workers.folders.model_files import NotAModel, read_tensors
from mlx_server.workers.folders.safetensors_header import MAX_HEADER_BYTES
from mlx_server.workers.hub.access import HubAccess
from mlx_server.workers.hub.blob import SILENCE_S
from mlx_server.workers.hub.errors import REFUSALS, DownloadBroken, HubError
from mlx_server.workers.hub.files import RepoFile
from mlx_server.workers.hub.snapshot import (
    Report,
    cache_errors,
    cached_snapshot,
    fetch_files,
    link,
    listed,
    tell_of_earlier,
    wanted,
)

LENGTH_BYTES = 8
USUAL_HEADER_BYTES = 64 << 10


@dataclass(frozen=True)
class Part:
    """What of a repository is wanted. In a folder in which weights are headers with a hole behind them, `read` says
    which of these files are read; `folder`, an empty one, is where it is laid out."""

    folder: Path
    read: Callable[[Path], set[str]]


def fetch_part(repo_id: str, access: HubAccess, report: Report, part: Part) -> Path:
    """A folder with all files of a repository, of which those have their tensors that are read: in the hub's cache if
    these are all, else `part.folder` with links to there.

    Where the hub can't be reached or refuses, the folder of an earlier time is given, if it is whole. Raises HubError,
    and what `read` raises.
    """
    try:
        return bring_part(repo_id, access, report, part)
    except REFUSALS as error:
        earlier = cached_snapshot(repo_id, access)
        with contextlib.suppress(NotAModel):
            if earlier is not None and read_tensors(earlier):
                tell_of_earlier(repo_id, error)
                return earlier
        raise


def bring_part(repo_id: str, access: HubAccess, report: Report, part: Part) -> Path:
    """The same, as the hub has it now."""
    revision, files = listed(repo_id, access)
    weights = {file.path: file for file in files if "/" not in file.path and file.path.endswith(".safetensors")}
    beside = [file for file in files if file.path not in weights]
    with cache_errors(repo_id, access):
        fetch_files(repo_id, revision, beside, access, report)
        snapshot = link(repo_id, access, paths(beside))
        there = [path for path in weights if (snapshot / path).is_file()]
        lay_out(part.folder, snapshot, [*paths(beside), *there])
        for file in (weights[path] for path in weights.keys() - there):
            with (part.folder / file.path).open("wb") as output:
                output.write(fetch_header(repo_id, revision, file, access))
                output.truncate(file.size)
    read = part.read(part.folder)
    with cache_errors(repo_id, access):
        fetch_files(repo_id, revision, [weights[path] for path in read], access, report)
        if read == weights.keys():
            return link(repo_id, access, wanted(files))
        lay_out(part.folder, link(repo_id, access, [*paths(beside), *read]), read)
    return part.folder


def paths(files: Iterable[RepoFile]) -> list[str]:
    """Their names in the repository."""
    return [file.path for file in files]


def lay_out(folder: Path, snapshot: Path, names: Iterable[str]) -> None:
    """Link to a snapshot's files of these names. Raises HubError if one is not there."""
    for name in names:
        place, source = folder / name, snapshot / name
        if not source.is_file():
            raise HubError(f"{name} did not come into {snapshot}: start again.")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(source)


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
