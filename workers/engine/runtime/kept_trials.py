"""What trying a model has shown, kept on this machine from one load to the next.

A file for each model as it is now: another one takes its place once a weight, the config, a library or the device is
another. What came out well is kept, and what was measured; what failed is tried again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mlx_server.workers.engine.runtime.machine_probe import preloaded_openblas
from mlx_server.workers.errors import one_line
from mlx_server.workers.folders.kept_file import read_kept, write_kept

FOLDER = "trials"
EDITION = 2
"""Of the trials: to be raised when one of them looks at something else."""

LIBRARIES = ("mlx", "mlx-lm", "mlx-server", "numpy", "transformers")
"""A trial may end otherwise with another version of one of these."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class KeptTrials:
    """What is kept of one model, by the names of the trials. `file` None: nothing is. Engine thread only."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._found = (read_kept(file, dict[str, Any]) or {}) if file is not None else {}

    @classmethod
    def of(cls, cache_dir: Path, *prints: str, version_of: Callable[[str], str] = version) -> KeptTrials:
        """Of the model, its files and the device that `prints` name, with the libraries that are installed."""
        libraries = [version_of(name) for name in LIBRARIES]
        facts = [EDITION, *prints, *libraries, preloaded_openblas()]
        name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
        return cls(cache_dir / FOLDER / f"{name}.json")

    def get(self, trial: str, kind: type[T]) -> T | None:
        """What a trial has shown; None if that is not known."""
        try:
            return msgspec.convert(self._found[trial], kind)
        except (KeyError, msgspec.ValidationError):
            return None

    def put(self, trial: str, shown: Any) -> None:
        """Keep what a trial has shown. Where the folder can't be written, the next load tries again."""
        self._found[trial] = msgspec.to_builtins(shown)
        if self._file is None:
            return
        try:
            write_kept(self._file, self._found)
        except OSError as error:
            log.debug("what was tried is not kept: %s", one_line(error))
