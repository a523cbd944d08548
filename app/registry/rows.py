"""What the registry keeps, as it is handed out."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from mlx_server.app.catalog.kinds import Kind
from mlx_server.app.catalog.model_facts import ModelOnDisk
from mlx_server.app.config.names import NAME_RULE, is_name
from mlx_server.schemas.internal.errors import InvalidRequest, shortened
from mlx_server.workers.folders.model_path import HUB_ID

NEVER = datetime.fromtimestamp(0, UTC)
KV_BYTES = "kv_bytes_per_token"
STEP_BYTES = "step_bytes"
MAX_PATH = 4096
PATH_RULE = f"an absolute path of at most {MAX_PATH} characters, without '..'"
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


class ModelRow(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A model that may be named. Times are in UTC, `…_bytes` bytes; what is not known is None.

    `path` is that of a folder or a .gguf file, None if there is none on this machine. `status` is what became of it the
    last time: whether it is loaded now only the fleet knows. `id`, `use_count` and the times are the registry's: they
    are 0 and NEVER in a row that was not kept yet, and saving a row does not change them. `aliases` are other names of
    the model, and `stamp` is what its files looked like when they were last read.
    """

    id: int = 0
    name: str
    path: str | None = None
    hub_id: str | None = None
    type: Kind = Kind.LANGUAGE
    version: str | None = None
    quantisation: str | None = None
    weight_bytes: int = 0
    memory_bytes: int | None = None
    parameters: int | None = None
    context_length: int | None = None
    architecture: str | None = None
    status: str = "unloaded"
    use_count: int = 0
    last_used_at: datetime | None = None
    created_at: datetime = NEVER
    updated_at: datetime = NEVER
    error_message: str | None = None
    metadata: dict[str, Any] = {}
    aliases: tuple[str, ...] = ()
    stamp: str | None = None


class DownloadRow(msgspec.Struct, frozen=True, kw_only=True):
    """A download as it is kept. Times are in UTC; `total_bytes` is 0 until it is known. `owner` is the server that has
    started it the last time, as `app/hub/owner.py` tells them apart.
    """

    id: str
    hub_id: str
    name: str
    status: str
    total_bytes: int
    done_bytes: int
    error: str | None
    created_at: datetime
    updated_at: datetime
    auto_load: bool
    owner: str | None = None


def on_disk(row: ModelRow) -> ModelOnDisk | None:
    """What its files say, as far as it is kept; None for a model that has none on this machine."""
    if row.path is None:
        return None
    return ModelOnDisk(
        Path(row.path),
        row.type,
        row.architecture or "unknown",
        row.quantisation,
        row.weight_bytes,
        row.parameters,
        row.context_length,
        row.metadata.get(KV_BYTES),
        row.metadata.get(STEP_BYTES),
    )


def check_model(row: ModelRow) -> None:
    """Refuse what a model can't be called, or where it can't be. Raises InvalidRequest."""
    check_name(row.name, "name")
    for alias in row.aliases:
        check_name(alias, "aliases")
    if row.path is not None:
        check_path(row.path)
    if row.hub_id is not None and not HUB_ID.fullmatch(row.hub_id):
        raise InvalidRequest(
            f"`hub_id`: {shortened(row.hub_id, 200)!r} is no repository's id; it must be OWNER/NAME.", "hub_id"
        )


def check_name(name: str, field: str) -> None:
    """Refuse what is no name. Raises InvalidRequest for `field`."""
    if not is_name(name):
        raise InvalidRequest(
            f"`{field}`: {shortened(name, 200)!r} is no name of a model; it must be {NAME_RULE}.", field
        )


def check_path(path: str) -> None:
    """Refuse what is no path of a model, whether or not there is one. Raises InvalidRequest."""
    parts = Path(path)
    if len(path) > MAX_PATH or UNPRINTABLE.search(path) or not parts.is_absolute() or ".." in parts.parts:
        raise InvalidRequest(f"`path`: {shortened(path, 200)!r} is no path of a model; it must be {PATH_RULE}.", "path")
