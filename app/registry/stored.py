"""Settings that clients have set, read before there is a server."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

import msgspec

from mlx_server.app.registry.app_settings import SETTINGS, Value
from mlx_server.app.registry.registry import FILE

FIELDS = {
    "server_port": "port",
    "bind_to_all_interfaces": "host",
    "log_level": "log_level",
    "max_concurrent_requests": "max_concurrency",
    "auto_unload_inactive_models": "idle_timeout_s",
    "model_inactivity_timeout_minutes": "idle_timeout_s",
}
"""What the settings change, by their keys, as the server's own settings call it."""

log = logging.getLogger(__name__)


def read_stored(data_dir: Path) -> dict[str, Value]:
    """By their keys; none where there is no registry yet, or none that can be read: opening it says why."""
    path = data_dir / FILE
    if not os.path.isfile(path):
        return {}
    try:
        with closing(sqlite3.connect(path, timeout=5.0)) as connection:
            found = connection.execute("SELECT key, value FROM settings").fetchall()
    except sqlite3.Error as error:
        log.warning("the settings in %s can't be read: %s", path, error)
        return {}
    values = {key: msgspec.json.decode(value) for key, value in found}
    return {key: value for key, value in values.items() if key in SETTINGS and SETTINGS[key].allows(value)}


def use_stored_cache(data_dir: Path) -> bool:
    """Keep the hub's files where the setting says, unless HF_HUB_CACHE does, in this process and those that begin from
    now on; False without the setting. Has to be before anybody asks the hub's client, which reads it once."""
    folder = read_stored(data_dir).get("huggingface_cache_dir")
    if folder:
        os.environ.setdefault("HF_HUB_CACHE", str(folder))
    return bool(folder)


def keys_of(fields: Collection[str]) -> list[str]:
    """The settings' keys by the fields that the command line, the environment or the configuration file gave."""
    return [key for key, field in FIELDS.items() if field in fields]
