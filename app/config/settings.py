"""The one settings object. The command line fills it; nothing else reads the environment."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mlx_server.app.config.hours import Hours
from mlx_server.queue.account import UNLIMITED, KeyLimits, Priority
from mlx_server.schemas.internal.generation import Speculate
from mlx_server.schemas.internal.hosts import Hosts
from mlx_server.schemas.internal.messages import CpuDtype, LeaseUse, MediaLimits
from mlx_server.schemas.internal.state_bits import StateBits
from mlx_server.workers.hub.access import HubAccess
from mlx_server.workers.log_lines import LogFormat
from mlx_server.workers.parent.supervisor import Patience


def default_cache_dir() -> Path:
    """Where converted and demo models are kept."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mlx-server"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlx-server"


def default_data_dir() -> Path:
    """Where what clients asked to keep is kept."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "mlx-server"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "mlx-server"


ModelType = Literal["lm", "vlm", "embeddings", "rerank", "audio", "image", "scripted"]


USUAL_RATES = "100/minute; 10/second"
"""What each client may ask for where requests are limited and nothing else was said."""


@dataclass(frozen=True)
class MediaAccess:
    """Where clients' pictures and sounds may come from beside the request itself, and how large they may be.

    `urls`: http and https addresses are fetched; `private_urls`: also those of this machine and its networks.
    `directory`: files in it may be named by file:// URLs. `max_bytes` is of one file, `timeout_s` for all files of a
    request.
    """

    urls: bool = True
    private_urls: bool = False
    directory: Path | None = None
    max_bytes: int = 20 << 20
    max_files: int = 16
    timeout_s: float = 20.0


DEFAULT_ROWS: dict[str, int] = {"embeddings": 256, "rerank": 256, "audio": 16, "image": 4}
"""Requests that are computed together or take turns, where that is not 8: these share out their steps by themselves."""


@dataclass(frozen=True)
class ApiKey:
    """A key that clients may have. `name`: as the log calls it; `max_priority`: the most that its requests may ask for;
    `operator`: it may also stop, load and delete what others use."""

    key: str = field(repr=False)
    name: str | None = None
    max_priority: Priority = Priority.NORMAL
    limits: KeyLimits = UNLIMITED
    operator: bool = True


@dataclass(frozen=True)
class ModelSettings:
    """How one model is served. `…_s` are seconds, `…_bytes` bytes.

    `type`: None means what its files say. `context_length`: None means the model's own. `prefix_cache_bytes`: None
    means what memory allows. `max_concurrency`: None means what suits the type. `idle_timeout_s`: None means the
    server's, 0 that it is never unloaded for idleness. `hosts` are those that the model is spread over.
    `queue_timeout_s` bounds a request's time without a token, `request_timeout_s` all of its time.
    `default_max_tokens`: None means what the context has room for. Sampling: None means the model's own default.
    """

    path: str
    type: ModelType | None = None
    name: str | None = None
    aliases: tuple[str, ...] = ()
    max_concurrency: int | None = None
    queue_size: int = 100
    idle_rows: int = 0
    queue_timeout_s: float = 300.0
    request_timeout_s: float | None = None
    pinned: bool = False
    idle_timeout_s: float | None = None
    replicas: int = 1
    hosts: Hosts | None = None
    default_max_tokens: int | None = None
    context_length: int | None = None
    prefill_step_size: int = 512
    chat_template: str | None = None
    chat_template_args: dict[str, Any] = field(default_factory=dict)
    use_default_chat_template: bool = False
    adapter_path: Path | None = None
    adapter_dir: Path | None = None
    draft_model: str | None = None
    num_draft_tokens: int = 8
    speculate: Speculate = "auto"
    feature_cache_bytes: int = 256 << 20
    prefix_cache_bytes: int | None = None
    batch_tokens: int = 4096
    cpu_dtype: CpuDtype = "auto"
    max_gap_s: float | None = None
    prompt_cache_dir: Path | None = None
    prompt_cache_bytes: int = 10 << 30
    kv_bytes: int | None = None
    warm_prompt: str | None = None
    kv_bits: StateBits | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None

    @cached_property
    def public_name(self) -> str:
        """Its public name: what was asked for, else its path's last part or its hub id; the disk is asked once."""
        if self.name:
            return self.name
        path = Path(self.path).expanduser()
        return (path.stem if path.suffix == ".gguf" else path.name) if path.exists() else self.path

    def rows(self, model_type: ModelType) -> int:
        """How many sequences are computed together, by default as suits the type."""
        return self.max_concurrency or DEFAULT_ROWS.get(model_type, 8)


@dataclass(frozen=True)
class Settings:
    """How one server runs. `…_s` are seconds, `…_bytes` bytes; no API key means that any or none is accepted.

    `models` are configured; `defaults` is how models are served that are found in another way. `idle_timeout_s`: how
    long a model that was loaded on demand stays without a request, 0 for ever. `max_models` and `memory_limit_bytes`:
    None means as many as fit in the machine.
    """

    models: tuple[ModelSettings, ...] = ()
    defaults: ModelSettings = field(default_factory=lambda: ModelSettings(""))
    models_dir: Path | None = None
    config: Path | None = None
    max_models: int | None = None
    memory_limit_bytes: int | None = None
    idle_timeout_s: float = 1800.0
    auto_load: bool = True
    auto_download: bool = False
    standby: bool = True
    """A worker process is kept ready that has no model yet."""
    confine_workers: bool = True
    """They give up what they do not need; see SECURITY.md."""
    cluster: str | None = None
    """Where Ray is, that places the workers; None: they are processes of this machine."""
    lease: LeaseUse = "auto"
    host: str = "127.0.0.1"
    port: int = 8000
    keepalive_s: float = 10.0
    """How long a stream is silent before its first token; 0: for ever."""
    resume_s: float = 60.0
    """How long an answer with an idempotency key is made and kept without a client."""
    batch_hours: Hours | None = None
    """When lines of batches run, by the machine's clock; None: at any time."""
    drain_timeout_s: float = 30.0
    max_body_bytes: int = 32 << 20
    max_upload_bytes: int = 1 << 30
    """Of a form with files, which lie on disk."""
    max_speech_characters: int = 4096
    strict_params: bool = False
    api_keys: tuple[ApiKey, ...] = ()
    cors_origins: tuple[str, ...] = ()
    """Sites whose pages may use the server in a browser; `*` are all."""
    public_url: str | None = None
    """What links in answers begin with, without a slash at its end; None: where a request found the server."""
    rate_limit: str | None = None
    """Requests that each client may make, `100/minute; 10/second`; None: as many as it likes."""
    log_level: str = "info"
    log_format: LogFormat = "text"
    otlp_endpoint: str | None = None
    """Where OpenTelemetry's collector listens for spans, by OTLP over HTTP; None: none are made."""
    otlp_of_all: bool = False
    """It was told to all programs of this machine, so that the server may do without."""
    cache_dir: Path = field(default_factory=default_cache_dir)
    data_dir: Path = field(default_factory=default_data_dir)
    response_store: Literal["disk", "memory", "off"] = "disk"
    response_store_max_bytes: int = 256 << 20
    response_store_max_age_s: float = 30 * 86_400.0
    file_quota_bytes: int = 10 << 30
    file_quota_count: int = 10_000
    """What one key may keep of files; without configured keys all clients are one."""
    media: MediaAccess = field(default_factory=MediaAccess)
    media_limits: MediaLimits = field(default_factory=MediaLimits)
    hub: HubAccess = field(default_factory=HubAccess.from_environment)
    patience: Patience = field(default_factory=Patience)
    said: frozenset[str] = frozenset()
    """Fields that the command line, the environment or the configuration file set: clients don't change them."""

    @property
    def sole(self) -> ModelSettings | None:
        """The only model, to which requests go whatever model they name; None where the name selects."""
        several = len(self.models) != 1 or self.config is not None or self.models_dir is not None
        return None if several else self.models[0]
