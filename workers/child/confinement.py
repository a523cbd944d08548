"""What a worker gives up, as nothing that it does later needs it: a model's code that is made to do harm does less."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from mlx_server.schemas.internal.messages import Load
from mlx_server.workers.child.lease import machine_folder
from mlx_server.workers.engine.sandbox.landlock import write_only_below
from mlx_server.workers.engine.sandbox.no_internet import open_no_more_connections
from mlx_server.workers.folders.model_path import ModelPathError, local_path
from mlx_server.workers.hub.access import HubAccess

DEVICES, OWN_PROCESS = Path("/dev"), Path("/proc/self")

KERNELS = "NUMBA_CACHE_DIR"
"""The variable that says where numba keeps what it has compiled."""

log = logging.getLogger(__name__)


def caches(spec: Load) -> list[Path]:
    """Where it keeps what it has found out and compiled."""
    return [Path(spec.cache_dir), *(Path(os.environ[name]) for name in (KERNELS,) if name in os.environ)]


def writable_folders(spec: Load) -> list[Path]:
    """Where a worker with this model writes: caches, files that it deletes again, the accelerator."""
    folders = [*caches(spec), Path(tempfile.gettempdir()), machine_folder(), DEVICES, OWN_PROCESS]
    if spec.prompt_cache_dir is not None:
        folders.append(Path(spec.prompt_cache_dir))
    if any(may_be_fetched(path) for path in (spec.model_path, spec.draft_model) if path is not None):
        folders.append(HubAccess.from_environment().cache)
    return folders


def may_be_fetched(model_path: str) -> bool:
    """Whether a model may have to come from the hub."""
    try:
        return local_path(model_path) is None
    except ModelPathError:
        return False


def keep_to_own_folders(spec: Load) -> None:
    """Before anything of the model is read: this thread, and those that it starts, write nowhere else."""
    for cache in caches(spec):
        make(cache)
    if spec.prompt_cache_dir is not None:
        make(Path(spec.prompt_cache_dir), mode=0o700)
    folders = writable_folders(spec)
    try:
        kept = write_only_below(folders)
    except OSError as error:
        log.warning("this process may write anywhere: %s", error)
        return
    if kept:
        log.info("this process writes only below %s", ", ".join(map(str, folders)))


def leave_the_network() -> None:
    """Once the model is there: no thread of this process opens a connection any more."""
    try:
        left = open_no_more_connections()
    except OSError as error:
        log.warning("this process may open connections: %s", error)
        return
    if left:
        log.info("this process opens no more connections")


def make(folder: Path, mode: int = 0o777) -> None:
    """What is not there can't be allowed."""
    try:
        folder.mkdir(mode, parents=True, exist_ok=True)
    except OSError as error:
        log.debug("%s can't be made: %s", folder, error)
