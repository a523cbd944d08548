"""The settings that clients may change: what each may be, what it is at first, and what it changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from mlx_server.app.config.settings import Settings
from mlx_server.schemas.internal.errors import InvalidRequest

Value = bool | int | str

IDLE_MINUTES = 30
ANY_HOST = ("0.0.0.0", "::")  # noqa: S104 - what `bind_to_all_interfaces` asks for


class Effect(StrEnum):
    """When a setting takes effect."""

    NOW = "now"
    NEXT_LOAD = "next_load"
    """In models that are loaded from now on."""
    NEXT_START = "next_start"
    KEPT_ONLY = "kept_only"
    """Never: it is kept for clients that ask for it, and nothing here acts on it."""


class SettingNotFound(Exception):  # noqa: N818 - named for the fact
    """Raised when there is no setting of that key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Setting {key[:200]!r} not found. There are: {', '.join(SETTINGS)}.")


@dataclass(frozen=True)
class Setting:
    """One setting. Its default is MLX-GUI's, and gives its type; `least` and `most` bound numbers, and the length of
    texts; `choices` are all that it may be.
    """

    default: Value
    effect: Effect
    note: str
    least: int = 0
    most: int = 0
    choices: tuple[str, ...] = ()

    @property
    def rule(self) -> str:
        """What it may be, in words."""
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, int):
            return f"a whole number from {self.least} to {self.most}"
        return f"one of {', '.join(self.choices)}" if self.choices else f"text of at most {self.most} characters"

    def allows(self, value: object) -> bool:
        """Whether it may be this."""
        if type(value) is not type(self.default):
            return False
        if isinstance(value, bool):
            return True
        if isinstance(value, int):
            return self.least <= value <= self.most
        assert isinstance(value, str)
        return value in self.choices if self.choices else len(value) <= self.most and value.isprintable()


SETTINGS: Mapping[str, Setting] = {
    "server_port": Setting(
        8000, Effect.NEXT_START, "The port, unless --port or the configuration file gives one.", 1, 65535
    ),
    "max_concurrent_requests": Setting(
        5, Effect.NEXT_LOAD, "Sequences that a model computes together, unless --max-concurrency gives it.", 1, 1024
    ),
    "auto_unload_inactive_models": Setting(True, Effect.NOW, "Whether idle models are unloaded."),
    "model_inactivity_timeout_minutes": Setting(
        IDLE_MINUTES, Effect.NOW, "After how many minutes without a request.", 1, 7 * 24 * 60
    ),
    "enable_system_tray": Setting(
        True, Effect.KEPT_ONLY, "This server has no desktop, so there is no tray to show anything in."
    ),
    "log_level": Setting("INFO", Effect.NOW, "How much is logged.", choices=("DEBUG", "INFO", "WARNING", "ERROR")),
    "huggingface_cache_dir": Setting(
        "",
        Effect.NEXT_START,
        "Where the hub's files are kept, unless HF_HUB_CACHE says; empty: as HF_HOME says.",
        most=4096,
    ),
    "enable_gpu_acceleration": Setting(
        True, Effect.KEPT_ONLY, "MLX takes the GPU where there is one; mlx-server launch says which device it took."
    ),
    "bind_to_all_interfaces": Setting(
        False,
        Effect.NEXT_START,
        "Whether other machines are let in, unless --host or the configuration file says where.",
    ),
}
"""By their keys, as MLX-GUI's /v1/settings names them."""


def checked(key: str, value: object) -> Value:
    """The value, if the setting may be that. Raises SettingNotFound or InvalidRequest."""
    if (setting := SETTINGS.get(key)) is None:
        raise SettingNotFound(key)
    if not setting.allows(value):
        raise InvalidRequest(f"`value`: {key} must be {setting.rule}.", "value")
    assert isinstance(value, Value)
    return value


def in_force(settings: Settings) -> dict[str, Value]:
    """What a server with these settings does, in the words of SETTINGS. Kept ones are their defaults."""
    idle_s = settings.idle_timeout_s
    return {
        **{key: setting.default for key, setting in SETTINGS.items()},
        "server_port": settings.port,
        "max_concurrent_requests": settings.defaults.rows("lm"),
        "auto_unload_inactive_models": idle_s > 0,
        "model_inactivity_timeout_minutes": max(1, round(idle_s / 60)) if idle_s else IDLE_MINUTES,
        "log_level": settings.log_level.upper(),
        "bind_to_all_interfaces": settings.host in ANY_HOST,
    }


def with_stored(settings: Settings, stored: Mapping[str, Value], given: Collection[str] = ()) -> Settings:
    """The server's settings with those that clients have set. `given`: keys whose values the command line, the
    environment or the configuration file gave, which win.
    """
    stored = {key: value for key, value in stored.items() if key not in given}
    wanted = {**in_force(settings), **stored}
    if "server_port" in stored:
        settings = replace(settings, port=int(wanted["server_port"]))
    if "max_concurrent_requests" in stored:
        rows = int(wanted["max_concurrent_requests"])
        models = (model if model.max_concurrency else replace(model, max_concurrency=rows) for model in settings.models)
        settings = replace(settings, models=tuple(models), defaults=replace(settings.defaults, max_concurrency=rows))
    if stored.keys() & {"auto_unload_inactive_models", "model_inactivity_timeout_minutes"}:
        minutes = int(wanted["model_inactivity_timeout_minutes"]) if wanted["auto_unload_inactive_models"] else 0
        settings = replace(settings, idle_timeout_s=minutes * 60.0)
    if "log_level" in stored:
        settings = replace(settings, log_level=str(wanted["log_level"]).lower())
    if "bind_to_all_interfaces" in stored and wanted["bind_to_all_interfaces"] != (settings.host in ANY_HOST):
        settings = replace(settings, host=ANY_HOST[0] if wanted["bind_to_all_interfaces"] else "127.0.0.1")
    return settings
