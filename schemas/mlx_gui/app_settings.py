"""`/v1/settings`, as MLX-GUI has it."""

from __future__ import annotations

from typing import Literal

import msgspec


class AppSettings(msgspec.Struct, frozen=True):
    """What is in force, or kept where nothing here acts on it."""

    server_port: int
    max_concurrent_requests: int
    auto_unload_inactive_models: bool
    model_inactivity_timeout_minutes: int
    enable_system_tray: bool
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    huggingface_cache_dir: str
    enable_gpu_acceleration: bool
    bind_to_all_interfaces: bool


class SettingRequest(msgspec.Struct, frozen=True):
    """A new value, of the setting's own type."""

    value: bool | int | str


class SettingAnswer(msgspec.Struct, frozen=True):
    """The setting is kept. `effect`: now, next_load, next_start, or kept_only where nothing acts on it, or
    whoever started the server has said otherwise.

    `note` says what it does.
    """

    key: str
    value: bool | int | str
    updated: bool
    effect: str
    note: str


setting_decoder = msgspec.json.Decoder(SettingRequest)
