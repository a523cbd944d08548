"""What flags mean, without a process: units, names, and what is read again."""

import asyncio
from dataclasses import fields, replace
from datetime import time
from pathlib import Path
from typing import Any

import pytest
import typer

from mlx_server.app.cli import launch_options as options
from mlx_server.app.cli.launch_flags import LaunchFlags
from mlx_server.app.cli.launch_settings import SettingsSource, check_companions, settings_of_flags
from mlx_server.app.config.config_file import ConfigError
from mlx_server.app.config.hours import Hours
from mlx_server.app.registry.registry import FILE as REGISTRY
from mlx_server.app.registry.registry import Registry

SCRIPTED = LaunchFlags(model_type=options.ModelKind.SCRIPTED, model_path="scripted")


def test_units_of_flags_become_those_of_the_settings() -> None:
    settings = settings_of_flags(
        replace(SCRIPTED, idle_timeout=2.0, max_media_mb=3, max_itl_ms=50.0, request_timeout=0.0, kv_memory_mb=5)
    )
    [model] = settings.models
    assert (settings.idle_timeout_s, settings.media.max_bytes) == (120.0, 3 << 20)
    assert (model.max_gap_s, model.request_timeout_s, model.kv_bytes) == (0.05, None, 5 << 20)


def test_companions_are_of_the_model_that_is_named_and_not_of_others(tmp_path: Path) -> None:
    settings = settings_of_flags(replace(SCRIPTED, adapter_path=tmp_path, num_draft_tokens=7))
    [model] = settings.models
    assert (model.adapter_path, model.num_draft_tokens) == (tmp_path, 7)
    assert (settings.defaults.adapter_path, settings.defaults.num_draft_tokens) == (None, 8)


def test_companions_mean_nothing_for_models_that_write_no_texts(tmp_path: Path) -> None:
    flags = replace(SCRIPTED, adapter_dir=tmp_path)
    check_companions(options.ModelKind.LM, flags.companions)
    with pytest.raises(typer.BadParameter, match="embeddings"):
        check_companions(options.ModelKind.EMBEDDINGS, flags.companions)


def test_a_path_that_is_there_is_absolute_and_never_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder := tmp_path / "someone" / "model").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    near, far = settings_of_flags(LaunchFlags(model_path="someone/model", model=["someone/other"])).models
    assert (near.path, near.public_name) == (str(folder), "model")
    assert (far.path, far.public_name) == ("someone/other", "someone/other")


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        ({"adapter_path": Path()}, "--adapter-path"),
        ({"adapter_dir": Path()}, "--adapter-dir"),
        ({"draft_model": "some/model"}, "--draft-model"),
        ({"num_draft_tokens": 3}, "--num-draft-tokens"),
        ({"model_type": options.ModelKind.VLM}, "--model-type"),
        ({"draft_model": "some/model", "num_draft_tokens": 3}, "--draft-model / --num-draft-tokens"),
    ],
)
def test_flags_of_a_model_are_refused_where_none_is_named(given: dict[str, Any], flag: str, tmp_path: Path) -> None:
    for more in ({"config": tmp_path / "models.toml"}, {"models_dir": tmp_path}, {}):
        with pytest.raises(typer.BadParameter, match="write it into the model's table") as refused:
            settings_of_flags(replace(LaunchFlags(), **given, **more))
        assert refused.value.param_hint == flag
    beside_the_file = replace(LaunchFlags(), model=["some/model"], config=tmp_path / "models.toml", **given)
    assert len(settings_of_flags(beside_the_file).models) == 1


@pytest.mark.parametrize("flag", ["warm_prompt", "chat_template"])
def test_file_of_a_flag_that_is_not_in_utf8_is_refused(flag: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"caf\xe9")
    with pytest.raises(typer.BadParameter, match="can't be read: 'utf-8' codec") as refused:
        settings_of_flags(replace(SCRIPTED, **{flag: tmp_path / "file"}))
    assert refused.value.param_hint == f"--{flag.replace('_', '-')}"


def test_keys_are_not_in_what_flags_look_like() -> None:
    assert "api_key" in {each.name for each in fields(LaunchFlags)}
    assert "secret" not in repr(replace(SCRIPTED, api_key=["secret"]))


def test_source_reads_the_file_again_and_flags_win(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("[server]\nport = 1111\nkeepalive = 5\n")
    flags = settings_of_flags(replace(SCRIPTED, config=file, data_dir=tmp_path, keepalive=3.0))
    source = SettingsSource(flags, frozenset({"keepalive_s"}), ())
    assert (source.read().port, source.read().keepalive_s) == (1111, 3.0)
    file.write_text("[server]\nport = 2222\n\n[[model]]\npath = 'other'\ntype = 'scripted'\n")
    assert source.read().port == 2222
    assert [model.path for model in source.read().models] == ["scripted", "other"]


def test_file_wins_over_what_clients_have_set(tmp_path: Path) -> None:
    registry = Registry.open(tmp_path / REGISTRY)
    try:
        for key, value in (
            ("server_port", 1),
            ("bind_to_all_interfaces", True),
            ("auto_unload_inactive_models", False),
        ):
            asyncio.run(registry.set_setting(key, value))
    finally:
        registry.close()
    file = tmp_path / "server.toml"
    file.write_text("[server]\nport = 2\nhost = '127.0.0.2'\nidle_timeout = 3\n")
    flags = settings_of_flags(replace(SCRIPTED, config=file, data_dir=tmp_path))
    settings = SettingsSource(flags, frozenset(), ()).read()
    assert (settings.host, settings.port, settings.idle_timeout_s) == ("127.0.0.2", 2, 180.0)
    file.write_text("")
    settings = SettingsSource(flags, frozenset(), ()).read()
    assert (settings.host, settings.port, settings.idle_timeout_s) == ("0.0.0.0", 1, 0.0)


def test_data_folder_that_the_system_refuses_has_no_settings(tmp_path: Path) -> None:
    flags = settings_of_flags(replace(SCRIPTED, data_dir=tmp_path / ("x" * 300)))
    assert SettingsSource(flags, frozenset(), ()).read() == flags


@pytest.mark.parametrize("hours", ["22-6", "22:00-24:00", "22:60-06:00", "22:00", ""])
def test_hours_of_batches_are_times_of_the_day(hours: str, tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text(f"[server]\nbatch_hours = {hours!r}\n")
    source = SettingsSource(settings_of_flags(replace(SCRIPTED, config=file, data_dir=tmp_path)), frozenset(), ())
    with pytest.raises(ConfigError, match=r"`batch_hours` must be two times of the day, such as 22:00-06:00"):
        source.read()
    with pytest.raises(typer.BadParameter, match="must be two times"):
        settings_of_flags(replace(SCRIPTED, batch_hours=hours))
    file.write_text("[server]\nbatch_hours = '22:00-06:00'\n")
    assert source.read().batch_hours == Hours(time(22), time(6))


def test_pin_of_no_model_is_an_error_of_the_file_that_lost_it(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("[[model]]\npath = 'other'\ntype = 'scripted'\n")
    flags = settings_of_flags(replace(SCRIPTED, config=file, data_dir=tmp_path))
    source = SettingsSource(flags, frozenset(), ("other",))
    assert [model.pinned for model in source.read().models] == [False, True]
    file.write_text("")
    with pytest.raises(ConfigError, match=r"server\.toml: there is no model 'other'"):
        source.read()
