"""A repository's files in the hub's own cache: the one way in which models are downloaded."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from glob import escape
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

from mlx_server.workers.folders.model_files import PIPELINE, weight_files
from mlx_server.workers.folders.picture_types import PARTS
from mlx_server.workers.hub.access import HubAccess
from mlx_server.workers.hub.blob import fetch_blob, partial, size_of
from mlx_server.workers.hub.errors import REFUSALS, HubError, NotEnoughDisk, NothingToServe, hub_errors
from mlx_server.workers.hub.files import HUB_FILES, MODEL_FILES, RepoFile, chosen, has_weights, needed

AT_ONCE = 4
LARGEST = 50_000_000_000
"""The hub gives files with more bytes to its own client only, which brings them without telling how far it is."""

REPORT_EVERY_S = 0.25

Report = Callable[[int, int], None]
"""Is told how many bytes of how many are here, now and then; calls come from several threads, one at a time."""

log = logging.getLogger(__name__)


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder that may not be there yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


class Progress:
    """Counts the bytes of several files."""

    def __init__(self, total: int, report: Report) -> None:
        self._total = total
        self._report = report
        self._done = 0
        self._told_at = float("-inf")
        self._lock = Lock()

    def arrived(self, count: int) -> None:
        """Note that `count` more bytes are here."""
        with self._lock:
            self._done += count
            now = time.monotonic()
            if now - self._told_at >= REPORT_EVERY_S or self._done == self._total:
                self._told_at = now
                self._report(self._done, self._total)


def fetch(
    repo_id: str,
    access: HubAccess,
    report: Report,
    *,
    force: bool = False,
    free: Callable[[Path], int] = free_bytes,
) -> Path:
    """The folder with a repository's model, whole and verified; only what is not there yet is downloaded.

    `force` downloads everything again. Where the hub can't be reached or refuses, the folder of an earlier time is
    given, if it is whole.
    `free` tells the room on a folder's disk, in bytes. Raises HubError.
    """
    try:
        revision, files = listed(repo_id, access)
        with cache_errors(repo_id, access):
            fetch_files(repo_id, revision, files, access, report, force=force, free=free)
            return link(repo_id, access, wanted(files))
    except REFUSALS as error:
        folder = None if force else cached_snapshot(repo_id, access)
        if folder is None:
            raise
        tell_of_earlier(repo_id, error)
        return folder


@contextlib.contextmanager
def cache_errors(repo_id: str, access: HubAccess) -> Iterator[None]:
    """Raises HubError for what the hub's client raises, and for what the system refuses."""
    with hub_errors(repo_id):
        try:
            yield
        except OSError as error:
            # The hub's own errors are OSErrors, too.
            if not error.strerror:
                raise
            raise HubError(f"{repo_id} can't be kept in {access.cache}: {error.strerror}") from None


def listed(repo_id: str, access: HubAccess) -> tuple[str, list[RepoFile]]:
    """A repository's newest revision, and the files that a model is made of. Raises HubError."""
    with hub_errors(repo_id):
        info = access.api().model_info(repo_id, files_metadata=True)
    files = needed(info.siblings or ())
    if not has_weights(files):
        raise NothingToServe(repo_id)
    return str(info.sha), files


def cached_snapshot(repo_id: str, access: HubAccess) -> Path | None:
    """The folder of an earlier time, if there is one that is whole."""
    from huggingface_hub import get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, HFValidationError, LocalEntryNotFoundError

    patterns = MODEL_FILES
    with contextlib.suppress(CachedRepoTreeNotFoundError):
        tree = get_cached_repo_tree(repo_id, cache_dir=access.cache_dir)
        patterns = [escape(path) for path in chosen([file.path for file in tree], MODEL_FILES)]
    try:
        found = snapshot_download(repo_id, allow_patterns=patterns, cache_dir=access.cache_dir, local_files_only=True)
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    folder = Path(found).absolute()
    # What is thought to be whole may be a lone config.json, which was asked for to know what the model is.
    parts = [folder / part for part in PARTS] if (folder / PIPELINE).is_file() else [folder]
    return folder if all(map(weight_files, parts)) else None


def tell_of_earlier(repo_id: str, error: HubError) -> None:
    """Say in the log that what was downloaded at an earlier time is used, and why."""
    log.warning("%s is used as it was downloaded earlier: %s", repo_id, error)


def wanted(files: Iterable[RepoFile]) -> list[str]:
    """What `link` is to look for to have these, and what a hub has told too little of."""
    return [*HUB_FILES, *(escape(file.path) for file in files)]


def link(repo_id: str, access: HubAccess, patterns: Sequence[str]) -> Path:
    """The folder with the files that are in the cache, by their names. Those that these patterns mean and that are
    missing are brought by the hub's own client."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    found = snapshot_download(
        repo_id,
        allow_patterns=list(patterns),
        cache_dir=access.cache_dir,
        endpoint=access.endpoint,
        token=access.token,
    )
    return Path(found).absolute()


def fetch_files(
    repo_id: str,
    revision: str,
    files: Sequence[RepoFile],
    access: HubAccess,
    report: Report,
    *,
    force: bool = False,
    free: Callable[[Path], int] = free_bytes,
) -> None:
    """Bring all of these into the cache. Raises HubError or what the hub's client raises."""
    from huggingface_hub.utils import build_hf_headers

    blobs = blobs_of(repo_id, access)
    locks = access.cache / ".locks" / blobs.parent.name
    by_etag = {file.etag: file for file in files}
    missing = [file for file in by_etag.values() if force or not (blobs / file.etag).exists()]
    here = {file.etag: begun(blobs, file) for file in missing}
    more = sum(file.size - here[file.etag] for file in missing)
    if more > (room := free(blobs)):
        raise NotEnoughDisk(repo_id, more, room, str(access.cache))
    if force:
        here = dict.fromkeys(here, 0)
    for folder in (blobs, locks):
        folder.mkdir(parents=True, exist_ok=True)
    check_largest(missing)
    total = sum(file.size for file in by_etag.values())
    progress = Progress(total, report)
    progress.arrived(total - sum(file.size - here[file.etag] for file in missing))
    headers = build_hf_headers(token=access.token)

    def fetch_one(file: RepoFile) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import WeakFileLock

        url = hf_hub_url(repo_id, file.path, revision=revision, endpoint=access.endpoint)
        blob = blobs / file.etag
        with WeakFileLock(locks / f"{file.etag}.lock"):
            # Only now: until then another process may have been writing it, and have brought some of it or all.
            if force:
                partial(blob).unlink(missing_ok=True)
            whole = not force and blob.exists()
            progress.arrived((file.size if whole else begun(blobs, file)) - here[file.etag])
            if not whole:
                fetch_blob(file, url, headers, blob, progress.arrived)

    run_all(fetch_one, [file for file in missing if file.size <= LARGEST])


def begun(blobs: Path, file: RepoFile) -> int:
    """How many bytes of a file that is not whole are here."""
    return min(size_of(partial(blobs / file.etag)), file.size)


def blobs_of(repo_id: str, access: HubAccess) -> Path:
    """Where the cache has a repository's files, by their checksums."""
    from huggingface_hub.file_download import repo_folder_name

    return Path(access.cache, repo_folder_name(repo_id=repo_id, repo_type="model"), "blobs")


def check_largest(files: Sequence[RepoFile]) -> None:
    """The hub's client brings the largest files, by a protocol that needs a package. Raises HubError without it."""
    from huggingface_hub import constants

    able = not constants.HF_HUB_DISABLE_XET and find_spec("hf_xet") is not None
    for file in files:
        if file.size > LARGEST and not able:
            raise HubError(f"{file.path} has {file.size / 1e9:.1f} GB, which needs hf-xet: pip install hf-xet")


def run_all(work: Callable[[RepoFile], None], files: Sequence[RepoFile]) -> None:
    """A few at a time; the first error is raised once those that have begun are done."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="hub") as threads:
        futures = [threads.submit(work, file) for file in files]
        try:
            for future in futures:
                future.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
