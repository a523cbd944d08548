"""Finds models on this machine and tells the registry of them, without loading them."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from threading import Event

import msgspec

from mlx_server.app.catalog import hub_cache
from mlx_server.app.catalog.model_facts import ModelOnDisk
from mlx_server.app.catalog.model_folder import DEEPEST, candidates, read_model
from mlx_server.app.config.names import is_name
from mlx_server.app.registry.registry import Registry
from mlx_server.app.registry.rows import KV_BYTES, STEP_BYTES, ModelRow, check_path
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.workers.folders.model_files import NotAModel, visible

NO_NAME = re.compile(r"[^A-Za-z0-9._/:@+-]+")
MOST_WITH_A_NAME = 1000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """What may be a model: where it lies, what it would be called, and its hub id if it is the hub's. `outside`: a link
    leads out of the folder that was looked through."""

    path: Path
    name: str
    hub_id: str | None = None
    outside: bool = False


@dataclass
class Scan:
    """What was found: models to keep, those whose files are gone, how many were as before, and what can't be read."""

    found: list[ModelRow] = field(default_factory=list)
    gone: list[ModelRow] = field(default_factory=list)
    unchanged: int = 0
    unreadable: list[str] = field(default_factory=list)


class Scanner:
    """Looks for models in folders and, with `hub`, in the hub's cache. A scan that goes on is joined, not doubled."""

    def __init__(self, registry: Registry, folders: Sequence[Path], *, hub: bool = True) -> None:
        self._registry = registry
        self._folders = tuple(folders)
        self._hub = hub
        self._running: asyncio.Task[Scan] | None = None
        self._closing = Event()

    def start(self) -> asyncio.Task[Scan]:
        """Begin to look, in a thread, and tell the registry; returns at once. What fails is logged."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._scan())
            self._running.add_done_callback(log_failure)
        return self._running

    async def scan(self) -> Scan:
        """The same, and wait for its end. Raises sqlite3.Error."""
        return await asyncio.shield(self.start())

    async def close(self) -> None:
        """End a scan that goes on, with what it has found."""
        self._closing.set()
        if self._running is not None:
            await asyncio.wait([self._running])

    async def _scan(self) -> Scan:
        registered = await self._registry.models()
        scan = await asyncio.to_thread(look, registered, self._folders, hub=self._hub, stop=self._closing.is_set)
        if scan.found or scan.gone:
            await self._registry.save_found(scan.found, scan.gone)
        log.info("models on this machine: %d new or changed, %d as before", len(scan.found), scan.unchanged)
        for problem in scan.unreadable:
            log.warning("%s", problem)
        return scan


def log_failure(task: asyncio.Task[Scan]) -> None:
    """A scan that failed is a line in the log."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("models could not be looked for: %s", error)


def look(
    registered: Sequence[ModelRow],
    folders: Sequence[Path],
    *,
    hub: bool,
    links: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Scan:
    """What has changed on the disk. Models are read whose files look different from when they were read last.

    `links` that lead out of the folders are followed if so wanted. It ends before the next model once `stop` says so.
    """
    scan = Scan()
    taken = {row.name for row in registered}
    same = RowIndex(registered)
    for candidate in found_in(folders, hub=hub):
        if stop():
            break
        if candidate.outside and not links:
            scan.unreadable.append(
                f"{candidate.path} leads out of its folder and is not served: name it with --model {candidate.path}"
            )
            continue
        rows = same.rows_of(candidate)
        try:
            check_path(str(candidate.path))
            stamp = stamp_of(candidate.path)
            if rows and all(row.stamp == stamp and row.path == str(candidate.path) for row in rows):
                scan.unchanged += 1
                continue
            model = read_model(candidate.path)
        except NotAModel as error:
            scan.unreadable.append(str(error))
            continue
        except (OSError, InvalidRequest) as error:
            scan.unreadable.append(f"{candidate.path} can't be read: {error}")
            continue
        if not rows:
            name = free_name(candidate.name, taken)
            taken.add(name)
            rows = [ModelRow(name=name)]
        scan.found += [described(row, candidate, model, stamp) for row in rows]
    scan.gone = [row for row in registered if is_gone(row, folders)]
    return scan


def found_in(folders: Sequence[Path], *, hub: bool) -> Iterator[Candidate]:
    """All that may be models, each once."""
    seen: set[Path] = set()
    for folder in folders:
        root = folder.resolve()
        for path in sorted(candidates(root, DEEPEST, seen)):
            own = path.relative_to(root.parent if path == root else root)
            outside = not path.resolve().is_relative_to(root)
            yield Candidate(path, own.as_posix().removesuffix(".gguf"), outside=outside)
    for hub_id, path in hub_cache.snapshots() if hub else ():
        if path.resolve() not in seen:
            yield Candidate(path.absolute(), hub_id, hub_id)


class RowIndex:
    """The registry's models by what tells that they are the same, whatever they are called."""

    def __init__(self, rows: Sequence[ModelRow]) -> None:
        self._rows: dict[str, list[ModelRow]] = defaultdict(list)
        for row in rows:
            for key in {row.path, row.hub_id} - {None}:
                self._rows[str(key)].append(row)

    def rows_of(self, candidate: Candidate) -> list[ModelRow]:
        """Those that are this one."""
        by_path = self._rows.get(str(candidate.path), [])
        by_id = self._rows.get(candidate.hub_id, []) if candidate.hub_id else []
        return [*by_path, *(row for row in by_id if row not in by_path)]


def stamp_of(path: Path) -> str:
    """Names, sizes and times of a model's files, two folders deep, in a few letters. Raises OSError."""
    files = [path] if path.is_file() else visible([*path.glob("*"), *path.glob("*/*")])
    looks = [(file.relative_to(path).as_posix(), file.stat()) for file in files]
    seen = [(name, look.st_size, look.st_mtime_ns) for name, look in looks]
    return blake2b(msgspec.json.encode(seen), digest_size=12).hexdigest()


def free_name(wanted: str, taken: set[str]) -> str:
    """A name like the one that is wanted, which a model may have and no other one has."""
    name = NO_NAME.sub("-", wanted).replace("..", ".").strip("/-")[-120:].lstrip("/") or "model"
    if not is_name(name) or not name.strip("."):
        name = "model"
    numbered = (f"{name}-{number}" for number in range(2, MOST_WITH_A_NAME + len(taken)))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def described(row: ModelRow, candidate: Candidate, model: ModelOnDisk, stamp: str | None) -> ModelRow:
    """The row with what the model's files say."""
    return msgspec.structs.replace(
        row,
        path=str(candidate.path),
        hub_id=candidate.hub_id or row.hub_id,
        # A snapshot of the hub's is named after its commit.
        version=candidate.path.name if candidate.hub_id else row.version,
        type=model.kind,
        quantisation=model.quantisation,
        weight_bytes=model.weight_bytes,
        parameters=model.parameters,
        context_length=model.context_length,
        architecture=model.architecture,
        metadata={**row.metadata, KV_BYTES: model.kv_bytes_per_token, STEP_BYTES: model.step_bytes},
        stamp=stamp,
    )


def is_gone(row: ModelRow, folders: Sequence[Path]) -> bool:
    """Whether a model's files were in a place that is still there, and are not any more.

    Only what a scan has seen can be gone: others may stand for models that are yet to come, or can't be seen now.
    """
    try:
        if row.path is None or row.stamp is None or Path(row.path).exists():
            return False
        roots = [root for root in (*(folder.resolve() for folder in folders), hub_cache.cache_root()) if root.is_dir()]
        return any(place.is_relative_to(root) for root in roots for place in (Path(row.path), Path(row.path).resolve()))
    except OSError:
        return False
