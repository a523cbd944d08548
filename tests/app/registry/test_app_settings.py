"""Settings that clients may change: what they may be, and what they change."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from mlx_server.app.config.settings import Settings
from mlx_server.app.registry.app_settings import (
    SETTINGS,
    Effect,
    SettingNotFound,
    Value,
    checked,
    in_force,
    with_stored,
)
from mlx_server.schemas.internal.errors import InvalidRequest

HOSTED = replace(Settings(), host="192.0.2.1", port=9000, log_level="warning", idle_timeout_s=20.0)


def test_settings_are_those_of_mlx_gui_with_its_defaults() -> None:
    assert {key: setting.default for key, setting in SETTINGS.items()} == {
        "server_port": 8000,
        "max_concurrent_requests": 5,
        "auto_unload_inactive_models": True,
        "model_inactivity_timeout_minutes": 30,
        "enable_system_tray": True,
        "log_level": "INFO",
        "huggingface_cache_dir": "",
        "enable_gpu_acceleration": True,
        "bind_to_all_interfaces": False,
    }
    assert all(setting.allows(setting.default) for setting in SETTINGS.values())
    kept = {key for key, setting in SETTINGS.items() if setting.effect is Effect.KEPT_ONLY}
    assert kept == {"enable_system_tray", "enable_gpu_acceleration"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("server_port", 65535),
        ("max_concurrent_requests", 1),
        ("auto_unload_inactive_models", False),
        ("model_inactivity_timeout_minutes", 10080),
        ("log_level", "DEBUG"),
        ("huggingface_cache_dir", "/somewhere"),
    ],
)
def test_value_in_its_range_is_taken(key: str, value: Value) -> None:
    assert checked(key, value) == value


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("server_port", 0, "a whole number from 1 to 65535"),
        ("server_port", 65536, "a whole number"),
        ("server_port", "8000", "a whole number"),
        ("server_port", 8000.0, "a whole number"),
        ("server_port", True, "a whole number"),
        ("server_port", None, "a whole number"),
        ("auto_unload_inactive_models", 1, "true or false"),
        ("model_inactivity_timeout_minutes", 0, "a whole number from 1"),
        ("log_level", "debug", "one of DEBUG, INFO, WARNING, ERROR"),
        ("huggingface_cache_dir", "a\nb", "text of at most"),
        ("huggingface_cache_dir", "a" * 5000, "text of at most 4096"),
        ("huggingface_cache_dir", [], "text of at most"),
    ],
)
def test_value_out_of_its_range_is_refused_with_what_is_allowed(key: str, value: object, rule: str) -> None:
    with pytest.raises(InvalidRequest, match=f"`value`: {key} must be {rule}") as raised:
        checked(key, value)
    assert raised.value.param == "value"


def test_unknown_setting_is_not_found() -> None:
    with pytest.raises(SettingNotFound, match=r"'nothing' not found\. There are: server_port, "):
        checked("nothing", 1)


def test_values_in_force_are_the_servers() -> None:
    assert in_force(HOSTED) == {
        **in_force(Settings()),
        "server_port": 9000,
        "log_level": "WARNING",
        "model_inactivity_timeout_minutes": 1,
    }
    assert in_force(replace(Settings(), idle_timeout_s=0.0))["auto_unload_inactive_models"] is False
    assert in_force(replace(Settings(), host="0.0.0.0"))["bind_to_all_interfaces"] is True


@pytest.mark.parametrize(
    ("stored", "changed"),
    [
        ({}, {}),
        ({"server_port": 9001}, {"port": 9001}),
        ({"log_level": "ERROR"}, {"log_level": "error"}),
        ({"auto_unload_inactive_models": False}, {"idle_timeout_s": 0.0}),
        ({"model_inactivity_timeout_minutes": 5}, {"idle_timeout_s": 300.0}),
        ({"auto_unload_inactive_models": False, "model_inactivity_timeout_minutes": 5}, {"idle_timeout_s": 0.0}),
        ({"bind_to_all_interfaces": True}, {"host": "0.0.0.0"}),
        ({"bind_to_all_interfaces": False}, {}),
        ({"max_concurrent_requests": 3}, {"defaults": replace(HOSTED.defaults, max_concurrency=3)}),
        ({"enable_system_tray": False, "enable_gpu_acceleration": False}, {}),
    ],
)
def test_stored_settings_change_the_servers(stored: Mapping[str, Value], changed: dict[str, Any]) -> None:
    assert with_stored(HOSTED, stored) == replace(HOSTED, **changed)
    assert with_stored(HOSTED, stored, given=stored) == HOSTED


def test_idle_models_that_were_never_unloaded_are_when_it_is_switched_on() -> None:
    never = replace(Settings(), idle_timeout_s=0.0)
    assert with_stored(never, {"auto_unload_inactive_models": True}).idle_timeout_s == 1800.0
