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
    """Where it keeps what it has found out, compiled and fetched."""
    compiled = [Path(os.environ[name]) for name in (KERNELS,) if name in os.environ]
    return [Path(spec.cache_dir), *compiled, *(hub_folders() if fetches(spec) else ())]


def writable_folders(spec: Load) -> list[Path]:
    """Where a worker with this model writes: caches, files that it deletes again, the accelerator."""
    folders = [*caches(spec), Path(tempfile.gettempdir()), machine_folder(), DEVICES, OWN_PROCESS]
    if spec.prompt_cache_dir is not None:
        folders.append(Path(spec.prompt_cache_dir))
    return folders


def hub_folders() -> list[Path]:
    """Where the hub's client keeps models, and parts of the largest files."""
    from huggingface_hub import constants

    return [HubAccess.from_environment().cache, Path(constants.HF_XET_CACHE)]


def fetches(spec: Load) -> bool:
    """Whether it may have to bring a model from the hub."""
    return any(may_be_fetched(path) for path in (spec.model_path, spec.draft_model) if path is not None)


def may_be_fetched(model_path: str) -> bool:
    """Whether a model may have to come from the hub."""
    try:
        return local_path(model_path) is None
    except ModelPathError:
        return False


def keep_to_own_folders(spec: Load) -> None:
    """Before anything of the model is read: this thread, and those that it starts, write nowhere else."""
    if not spec.confined:
        log.warning("this process gives nothing up, as it was told: it may write anywhere, and open connections")
        return
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
    told = "writes only below %s" if kept else "may write anywhere: this system can't keep it to %s"
    log.info("this process " + told, ", ".join(map(str, folders)))


def leave_the_network(spec: Load) -> None:
    """Once the model is there: no thread of this process opens a connection any more."""
    if not spec.confined:
        return
    if spec.hosts is not None and spec.hosts.backend == "mpi":
        log.info("this process may open connections: Open MPI opens one when it is first used")
        return
    try:
        left = open_no_more_connections()
    except OSError as error:
        log.warning("this process may open connections: %s", error)
        return
    log.info("this process %s", "opens no more connections" if left else "may open connections: this system can't tell")


def make(folder: Path, mode: int = 0o777) -> None:
    """What is not there can't be allowed."""
    try:
        folder.mkdir(mode, parents=True, exist_ok=True)
    except OSError as error:
        log.debug("%s can't be made: %s", folder, error)
