"""`--config`: a TOML file with the server's settings and a table for each model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlx_server.app.config.cluster import ADDRESS as CLUSTER
from mlx_server.app.config.hosts_file import read_hosts
from mlx_server.app.config.hours import parse_hours
from mlx_server.app.config.names import NAME_RULE, index, is_name
from mlx_server.app.config.origins import parse_origin
from mlx_server.app.config.public_url import parse_public_url
from mlx_server.app.config.settings import ApiKey, ModelSettings, ModelType, Settings
from mlx_server.queue.account import KeyLimits, Priority
from mlx_server.schemas.internal.generation import Speculate
from mlx_server.schemas.internal.hosts import Backend, Hosts
from mlx_server.schemas.parsing.parse import explain
from mlx_server.workers.folders.model_path import ModelPathError, local_path

MAX_BYTES = 1 << 20
SECONDS_A_MINUTE = 60.0
PATHS = ("adapter_path", "adapter_dir", "chat_template_file", "draft_model")

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=10_000_000)]
Minutes = Annotated[float, Meta(ge=0, le=10_000_000)]


class ConfigError(Exception):
    """Raised when the file can't be used; the message names it, the key and what is allowed, in one line."""


class ModelTable(msgspec.Struct, forbid_unknown_fields=True):
    """One model. What is not there is as the command line says. Relative paths are relative to the file's folder."""

    path: str
    name: str | None = None
    type: ModelType | None = None
    aliases: tuple[str, ...] = ()
    max_concurrency: Annotated[int, Meta(ge=1, le=4096)] | None = None
    queue_size: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    idle_rows: Annotated[int, Meta(ge=0, le=4096)] | None = None
    queue_timeout: Seconds | None = None
    request_timeout: Annotated[float, Meta(ge=0, le=10_000_000)] | None = None
    pinned: bool | None = None
    idle_timeout: Minutes | None = None
    replicas: Annotated[int, Meta(ge=1, le=64)] | None = None
    hosts: str | None = None
    backend: Backend | None = None
    default_max_tokens: Count | None = None
    context_length: Annotated[int, Meta(ge=16)] | None = None
    prefill_step_size: Annotated[int, Meta(ge=16, le=65536)] | None = None
    chat_template_file: str | None = None
    chat_template_args: dict[str, Any] | None = None
    use_default_chat_template: bool | None = None
    adapter_path: str | None = None
    adapter_dir: str | None = None
    draft_model: str | None = None
    num_draft_tokens: Annotated[int, Meta(ge=1, le=64)] | None = None
    speculate: Speculate | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0)] | None = None


class ServerTable(msgspec.Struct, forbid_unknown_fields=True):
    """The server. What the command line says wins."""

    host: Annotated[str, Meta(min_length=1)] | None = None
    port: Annotated[int, Meta(ge=0, le=65535)] | None = None
    models_dir: str | None = None
    max_models: Count | None = None
    memory_limit: str | Annotated[float, Meta(gt=0)] | None = None
    idle_timeout: Minutes | None = None
    keepalive: Annotated[float, Meta(ge=0, le=10_000_000)] | None = None
    batch_hours: str | None = None
    auto_load: bool | None = None
    auto_download: bool | None = None
    cluster: Annotated[str, Meta(pattern=CLUSTER)] | None = None
    accelerator_lease: Literal["auto", "on", "off"] | None = None
    confine_workers: bool | None = None
    cors_origins: tuple[str, ...] | None = None
    public_url: str | None = None


class KeyTable(msgspec.Struct, forbid_unknown_fields=True):
    """An API key: itself, or a file with nothing else in it. What is not limited may be used as far as there is any."""

    key: str | None = None
    key_file: str | None = None
    max_priority: Literal["low", "normal", "high"] = "normal"
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    max_rows: Count | None = None
    operator: bool = False


class ConfigFile(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file: models in `[[model]]` tables, or in tables `[models.NAME]`, and API keys in `[keys.NAME]`."""

    server: ServerTable = msgspec.field(default_factory=ServerTable)
    model: list[ModelTable] = []
    models: dict[str, ModelTable] = {}
    keys: dict[str, KeyTable] = {}


TABLES: dict[str, type[msgspec.Struct]] = {
    "server": ServerTable,
    "model": ModelTable,
    "models": ModelTable,
    "keys": KeyTable,
}


def read_config(path: Path) -> ConfigFile:
    """The file, checked. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror or error}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than 1 MiB.")
    try:
        raw = msgspec.toml.decode(content)
        check_keys(raw)
        return msgspec.convert(raw, ConfigFile)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, ConfigFile)[0]}") from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from None


def check_keys(raw: dict[str, Any]) -> None:
    """Raises ValueError for a key that nobody knows: it names the key, and those that are allowed."""
    check_table(raw, ConfigFile, "the file")
    for name, type_ in TABLES.items():
        found = raw.get(name, {})
        tables = [found] if name == "server" else list(found.values()) if isinstance(found, dict) else found
        for table in tables if isinstance(tables, list) else []:
            check_table(table, type_, f"[{name}]")


def check_table(table: object, type_: type[msgspec.Struct], where: str) -> None:
    """One table's keys."""
    allowed = [field.encode_name for field in msgspec.structs.fields(type_)]
    for key in table if isinstance(table, dict) else ():
        if key not in allowed:
            raise ValueError(f"`{key}` in {where} is not known; allowed are {', '.join(allowed)}.")


def models_of(config: ConfigFile, path: Path, defaults: ModelSettings) -> tuple[ModelSettings, ...]:
    """The models, in the order of the file. Raises ConfigError."""
    tables = [(table.name, table) for table in config.model]
    tables += [(table.name or name, table) for name, table in config.models.items()]
    try:
        models = tuple(model_of(name, table, path.parent, defaults) for name, table in tables)
        index(models)
    except (ValueError, ModelPathError, OSError) as error:
        raise ConfigError(f"{path}: {error}") from None
    return models


def model_of(name: str | None, table: ModelTable, folder: Path, defaults: ModelSettings) -> ModelSettings:
    """One model. Raises ValueError, ModelPathError or OSError."""
    for one in (*((name,) if name else ()), *table.aliases):
        if not is_name(one):
            raise ValueError(f"{one[:128]!r} can't be a model's name; allowed are {NAME_RULE}.")
    given: dict[str, Any] = {
        key: value
        for key in table.__struct_fields__
        if (value := getattr(table, key)) is not None and key not in ("path", "name", "hosts", "backend", *PATHS)
    }
    if "queue_timeout" in given:
        given["queue_timeout_s"] = given.pop("queue_timeout")
    if "request_timeout" in given:
        given["request_timeout_s"] = given.pop("request_timeout") or None
    if "idle_timeout" in given:
        given["idle_timeout_s"] = given.pop("idle_timeout") * SECONDS_A_MINUTE
    for key in ("adapter_path", "adapter_dir"):
        if (value := getattr(table, key)) is not None:
            given[key] = folder_at(folder, value, key)
    if table.chat_template_file is not None:
        given["chat_template"] = text_at(path_at(folder, table.chat_template_file))
    given |= hosts_of(table, folder)
    for key in ("path", "draft_model"):
        if (value := getattr(table, key)) is not None:
            given[key] = model_at(folder, value)
            if table.type != "scripted":
                local_path(given[key])
    return replace(defaults, name=name, **given)


def model_at(folder: Path, value: str) -> str:
    """A model's folder or file, if it lies there, else what may be a hub id."""
    near = folder / value
    return str(plain(near)) if near.exists() else value


def hosts_of(table: ModelTable, folder: Path) -> dict[str, Hosts]:
    """The hosts that a model is spread over, if it is. Raises ValueError."""
    if table.hosts is None:
        if table.backend is not None:
            raise ValueError("`backend` is for a model on several `hosts`.")
        return {}
    if (table.replicas or 1) > 1:
        raise ValueError("`replicas`: a model on several `hosts` has one worker.")
    return {"hosts": read_hosts(path_at(folder, table.hosts), table.backend)}


def keys_of(config: ConfigFile, path: Path) -> tuple[ApiKey, ...]:
    """The API keys, in the order of the file. Raises ConfigError."""
    try:
        keys = tuple(key_of(name, table, path.parent) for name, table in config.keys.items())
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if len({key.key for key in keys}) < len(keys):
        raise ConfigError(f"{path}: two tables in [keys] have the same key.")
    return keys


def key_of(name: str, table: KeyTable, folder: Path) -> ApiKey:
    """One key. Raises ValueError or OSError."""
    if (table.key is None) == (table.key_file is None):
        raise ValueError(f"[keys.{name}] has to have either `key` or `key_file`.")
    key = (table.key or "") if table.key_file is None else text_at(path_at(folder, table.key_file)).strip()
    if not key or not key.isprintable() or " " in key:
        raise ValueError(f"[keys.{name}]: a key is not empty, and has neither spaces nor what can't be printed.")
    limits = KeyLimits(table.requests_per_minute, table.tokens_per_minute, table.max_rows)
    return ApiKey(key, name, Priority[table.max_priority.upper()], limits, table.operator)


def plain(path: Path) -> Path:
    """The same place, absolute and without `..`. A link keeps its own name, after which its model is called."""
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


def path_at(folder: Path, value: str) -> Path:
    """What a path in the file means. Raises ValueError."""
    try:
        return folder / Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{value}: {error}") from None


def text_at(path: Path) -> str:
    """What a file holds. Raises ValueError or OSError."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not in UTF-8.") from None


def folder_at(folder: Path, value: str, key: str) -> Path:
    """A folder that must be there. Raises ValueError."""
    path = path_at(folder, value)
    if not path.is_dir():
        raise ValueError(f"`{key}`: {value} is no folder.")
    return path


def server_of(config: ConfigFile, path: Path, settings: Settings, given: frozenset[str]) -> Settings:
    """The server's settings; those of the fields that the command line has `given` win. Raises ConfigError."""
    found = {key: value for key, value in fields_of(config, path).items() if key not in given}
    return replace(settings, **found, api_keys=(*settings.api_keys, *keys_of(config, path)))


def fields_of(config: ConfigFile, path: Path) -> dict[str, Any]:
    """What [server] says, by the fields of the settings. Raises ConfigError."""
    from mlx_server.app.config.memory_limit import parse_memory_limit

    server = config.server
    found: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "max_models": server.max_models,
        "idle_timeout_s": None if server.idle_timeout is None else server.idle_timeout * SECONDS_A_MINUTE,
        "keepalive_s": server.keepalive,
        "auto_load": server.auto_load,
        "auto_download": server.auto_download,
        "lease": server.accelerator_lease,
        "confine_workers": server.confine_workers,
        "cluster": server.cluster,
    }
    try:
        if server.models_dir is not None:
            found["models_dir"] = folder_at(path.parent, server.models_dir, "models_dir")
        if server.cors_origins is not None:
            found["cors_origins"] = tuple(map(parse_origin, server.cors_origins))
        if server.public_url is not None:
            found["public_url"] = parse_public_url(server.public_url)
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if server.memory_limit is not None:
        try:
            found["memory_limit_bytes"] = parse_memory_limit(str(server.memory_limit))
        except ValueError as error:
            raise ConfigError(f"{path}: `memory_limit` {error}") from None
    if server.batch_hours is not None:
        try:
            found["batch_hours"] = parse_hours(server.batch_hours)
        except ValueError as error:
            raise ConfigError(f"{path}: `batch_hours` {error}") from None
    return {key: value for key, value in found.items() if value is not None}
