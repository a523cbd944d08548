"""The one settings object. The command line fills it; nothing else reads the environment."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlx_server.schemas.messages import MediaLimits
from mlx_server.workers.supervisor import Patience


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


ModelType = Literal["lm", "vlm", "embeddings", "rerank", "scripted"]


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


@dataclass(frozen=True)
class Settings:
    """How one server runs. `…_s` are seconds, `…_bytes` bytes; no API key means that any or none is accepted."""

    model_path: str
    model_type: ModelType = "lm"
    model_name: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    max_concurrency: int = 8
    queue_size: int = 100
    queue_timeout_s: float = 300.0
    drain_timeout_s: float = 30.0
    default_max_tokens: int = 4096
    prefill_step_size: int = 512
    max_body_bytes: int = 32 << 20
    strict_params: bool = False
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    log_level: str = "info"
    chat_template: str | None = None
    chat_template_args: dict[str, Any] = field(default_factory=dict)
    use_default_chat_template: bool = False
    cache_dir: Path = field(default_factory=default_cache_dir)
    data_dir: Path = field(default_factory=default_data_dir)
    response_store: Literal["disk", "memory", "off"] = "disk"
    response_store_max_bytes: int = 256 << 20
    response_store_max_age_s: float = 30 * 86_400.0
    adapter_path: Path | None = None
    adapter_dir: Path | None = None
    draft_model: str | None = None
    num_draft_tokens: int = 3
    media: MediaAccess = field(default_factory=MediaAccess)
    media_limits: MediaLimits = field(default_factory=MediaLimits)
    feature_cache_bytes: int = 256 << 20
    prefix_cache_bytes: int = 1 << 30
    batch_tokens: int = 4096
    max_gap_s: float | None = None
    prompt_cache_dir: Path | None = None
    prompt_cache_bytes: int = 10 << 30
    kv_bytes: int | None = None
    warm_prompt: str | None = None
    kv_bits: int | None = None
    patience: Patience = field(default_factory=Patience)

    @property
    def name(self) -> str:
        """The model's public name: what was asked for, else its path's last part or its hub id."""
        if self.model_name:
            return self.model_name
        path = Path(self.model_path).expanduser()
        return (path.stem if path.suffix == ".gguf" else path.name) if path.exists() else self.model_path
