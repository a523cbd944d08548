"""What the configuration file says, as settings."""

from pathlib import Path

import pytest

from mlx_server.app.config_file import ConfigError, models_of, read_config, server_of
from mlx_server.app.settings import ModelSettings, Settings

DEFAULTS = ModelSettings("", queue_timeout_s=1.0, request_timeout_s=2.0)


def _model(folder: Path, lines: str) -> ModelSettings:
    file = folder / "models.toml"
    file.write_text(f'[models.m]\npath = "scripted"\ntype = "scripted"\n{lines}')
    [model] = models_of(read_config(file), file, DEFAULTS)
    return model


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", (1.0, 2.0, None)),
        ("queue_timeout = 0.5\nrequest_timeout = 60\ndefault_max_tokens = 9", (0.5, 60.0, 9)),
        ("request_timeout = 0", (1.0, None, None)),
    ],
)
def test_limits_are_the_models_own_else_the_servers(
    tmp_path: Path, lines: str, expected: tuple[float, float | None, int | None]
) -> None:
    model = _model(tmp_path, lines)
    assert (model.queue_timeout_s, model.request_timeout_s, model.default_max_tokens) == expected


def test_a_negative_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="request_timeout"):
        _model(tmp_path, "request_timeout = -1")


def test_keepalive_is_the_servers_unless_the_command_line_says_it(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text("[server]\nkeepalive = 0\n")
    config = read_config(file)
    assert server_of(config, file, Settings(), frozenset()).keepalive_s == 0
    assert server_of(config, file, Settings(keepalive_s=3), frozenset({"keepalive_s"})).keepalive_s == 3
