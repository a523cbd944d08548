"""The second tier of the prefix cache: files that outlive the process."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
import uuid
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from mlx_lm.models.cache import make_prompt_cache

from mlx_server.workers.engine.kvcache.cache_file import BadFile, Snapshot, read_beginning, read_cache, snapshot, write
from mlx_server.workers.engine.kvcache.prefix_index import Beginning, PrefixIndex
from mlx_server.workers.engine.kvcache.prefix_store import Nearest, nearest_of

log = logging.getLogger(__name__)

LEAST_TOKENS = 128
"""The fewest tokens worth a file: fewer are computed sooner than read from a disk."""

REST_S = 2.0
"""Seconds that a prefix is left alone before it is written: an answer often makes it a longer one."""

MOST_WAITING = 8
"""The most prefixes that wait to be written; beyond that the oldest is dropped."""

WAITING_SHARE = 8
"""What waits to be written may take one part in this many of what kept prompts take."""

SUFFIX = ".safetensors"

FOLDER, FILE = re.compile(r"[0-9a-f]{10}-[0-9a-f]{10}"), re.compile(rf"[0-9a-f]{{32}}{re.escape(SUFFIX)}")
"""Names of models' folders beside each other, and of the files in them: nothing else is ever removed there."""

ABANDONED_S = 3600.0
"""Seconds after which an unfinished file was left by a process that has died."""


@dataclass(eq=False, slots=True)
class _Waiting:
    entry: Beginning
    taken: Snapshot
    since: float


class PrefixFiles:
    """Prefixes of one model in one folder. The least recently used files are removed when this folder, and those of
    other models beside it, exceed `limit_bytes`.

    Called on the engine thread; a thread of its own writes. Files in the folder that are cut short, changed or of
    another kind are removed; what does not have such a file's name is left alone.
    """

    def __init__(
        self, folder: Path, limit_bytes: int, model: Any, *, waiting_bytes: float = inf, rest_s: float = REST_S
    ) -> None:
        """What waits to be written takes up to `waiting_bytes` of memory, or is a single prefix. Raises OSError if the
        folder can't be made."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._limit = limit_bytes
        self._waiting_bytes = waiting_bytes
        self._rest_s = rest_s
        self._classes = [type(layer).__name__ for layer in make_prompt_cache(model)]
        self._index = PrefixIndex()
        self._files: dict[int, Path] = {}
        self._number = 0
        self._waiting: list[_Waiting] = []
        self._writing: _Waiting | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._scan()
        self._thread = threading.Thread(target=self._write_all, name="prompt-cache", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._files)

    @property
    def nbytes(self) -> int:
        """The bytes of memory that prefixes take until they are written."""
        with self._changed:
            writing = 0 if self._writing is None else self._writing.taken.nbytes
            return writing + self._waiting_nbytes()

    def release(self, nbytes: int) -> int:
        """Drop the oldest prefixes that wait, until so many bytes are free or none is left; the bytes that are."""
        with self._changed:
            before = self._waiting_nbytes()
            while self._waiting and before - self._waiting_nbytes() < nbytes:
                del self._waiting[0]
            return before - self._waiting_nbytes()

    def longest(self, new: Beginning, more_than: int) -> tuple[Beginning, list[Any]] | None:
        """The prefix that shares most tokens with a new one, and its cache, if these are more than `more_than`."""
        with self._changed:
            length, number = self._index.longest(new)
            if length <= max(more_than, LEAST_TOKENS - 1):
                return None
            entry, path = self._index[number], self._files[number]
        try:
            cache = read_cache(path, self._classes)
            os.utime(path)
        except Exception as error:  # noqa: BLE001 - a file may hold anything, and be gone
            log.warning("a kept prompt can't be read and is removed: %s", error)
            with self._changed:
                self._remove(number)
            return None
        with self._changed:
            if number in self._files:
                self._number += 1
                self._files[self._number] = self._files.pop(number)
                self._index.add(self._number, self._index.remove(number))
        return entry, cache

    def nearest(self, new: Beginning) -> Nearest:
        """The prefix with most tokens in common. From any thread."""
        with self._changed:
            return nearest_of(self._index, new, LEAST_TOKENS)

    def keep(self, entry: Beginning, cache: list[Any]) -> None:
        """Write a copy, some time later."""
        if len(entry) < LEAST_TOKENS or entry.places:
            return
        waiting = _Waiting(entry, snapshot(cache), time.monotonic())
        with self._changed:
            self._waiting.append(waiting)
            while len(self._waiting) > 1 and not self._may_wait():
                del self._waiting[0]
            self._changed.notify()

    def forget(self, entry: Beginning) -> None:
        """Drop a prefix that waits to be written, since a longer one contains it."""
        with self._changed:
            self._waiting = [one for one in self._waiting if one.entry is not entry]

    def close(self) -> None:
        """Write what waits, then end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _write_all(self) -> None:
        while (waiting := self._next()) is not None:
            path = self._folder / f"{uuid.uuid4().hex}{SUFFIX}"
            written = self._write(path, waiting)
            with self._changed:
                self._writing = None
                if written:
                    self._add(waiting.entry, path)
                    self._bound()

    def _write(self, path: Path, waiting: _Waiting) -> bool:
        try:
            write(path, waiting.entry, waiting.taken)
        except Exception as error:  # noqa: BLE001 - a disk may be full, and a state of a kind that no file holds
            log.warning("a prompt is not kept on disk: %s: %s", type(error).__name__, error)
            return False
        return True

    def _next(self) -> _Waiting | None:
        """The next prefix to write, once its time has come; None at the end."""
        with self._changed:
            while True:
                if not self._waiting:
                    if self._closed:
                        return None
                    self._changed.wait()
                    continue
                left = self._waiting[0].since + self._rest_s - time.monotonic()
                if left <= 0 or self._closed:
                    self._writing = self._waiting.pop(0)
                    return self._writing
                self._changed.wait(left)

    def _waiting_nbytes(self) -> int:
        return sum(one.taken.nbytes for one in self._waiting)

    def _may_wait(self) -> bool:
        return len(self._waiting) <= MOST_WAITING and self._waiting_nbytes() <= self._waiting_bytes

    def _add(self, entry: Beginning, path: Path) -> None:
        for number in self._index.beginnings_of(entry):
            if not entry.whole or len(self._index[number]) == len(entry):
                self._remove(number)
        self._number += 1
        self._index.add(self._number, entry)
        self._files[self._number] = path

    def _bound(self) -> None:
        """Remove the least recently used files until the limit holds."""
        own = {path: number for number, path in self._files.items()}
        found = []
        for path in self._all_files():
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        left = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if left <= self._limit:
                return
            left -= size
            if path in own:
                self._remove(own[path])
            else:
                remove(path)

    def _all_files(self) -> list[Path]:
        """The files that share the limit; what this user may not see is left out."""
        found: list[Path] = []
        for folder in self._beside():
            try:
                found += [path for path in folder.iterdir() if FILE.fullmatch(path.name)]
            except OSError as error:
                log.warning("kept prompts can't be counted: %s", error)
        return found

    def _beside(self) -> list[Path]:
        """The folders that share the limit."""
        if not FOLDER.fullmatch(self._folder.name):
            return [self._folder]
        try:
            return [one for one in self._folder.parent.iterdir() if FOLDER.fullmatch(one.name) and one.is_dir()]
        except OSError as error:
            log.warning("kept prompts of other models can't be counted: %s", error)
            return [self._folder]

    def _remove(self, number: int) -> None:
        path = self._files.pop(number, None)
        if path is not None:
            self._index.remove(number)
            remove(path)

    def _scan(self) -> None:
        """Add the files that earlier processes left."""
        for path in self._folder.glob("*.partial"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()
        found = []
        for path in self._folder.iterdir():
            if not FILE.fullmatch(path.name):
                continue
            try:
                found.append((path.stat().st_mtime_ns, path, read_beginning(path)))
            except (BadFile, OSError) as error:
                log.warning("a kept prompt can't be read and is removed: %s", error)
                remove(path)
        for _, path, entry in sorted(found, key=lambda one: one[0]):
            self._add(entry, path)
        self._bound()


def remove(path: Path) -> None:
    """Remove a file that may be gone already; one that can't be removed stays."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("a kept prompt can't be removed: %s", error)
