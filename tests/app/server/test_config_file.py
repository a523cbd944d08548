"""What the configuration file says, as settings."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.running.servers import ROOT

from mlx_server.app.config.config_file import ConfigError, models_of, read_config, server_of
from mlx_server.app.config.settings import ApiKey, ModelSettings, Settings
from mlx_server.app.fleet.reload import as_started, compare
from mlx_server.app.registry.rows import check_path

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


def test_a_wrong_value_is_refused_with_those_that_are_allowed(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text('[[model]]\npath = "x"\ntype = "lmm"\n')
    with pytest.raises(ConfigError) as refused:
        read_config(file)
    allowed = "'audio', 'embeddings', 'image', 'lm', 'rerank', 'vlm'"
    assert str(refused.value) == f"{file}: `model[0].type`: Invalid enum value 'lmm'; allowed are {allowed}."


def test_a_relative_path_is_one_that_the_registry_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "seen").symlink_to(ROOT / "tests" / "shapes" / "model")
    file = tmp_path / "work" / "models.toml"
    file.write_text('[[model]]\npath = "../models/seen"\ntype = "vlm"\n')
    monkeypatch.chdir(tmp_path)
    for named in (file, Path("work", "models.toml"), Path("work", "..", "work", "models.toml")):
        [model] = models_of(read_config(named), named, DEFAULTS)
        check_path(model.path)
        assert (model.path, model.public_name) == (str((tmp_path / "models").resolve() / "seen"), "seen")


def test_a_draft_model_is_found_as_its_model_is(tmp_path: Path) -> None:
    (tmp_path / "drafts" / "small").mkdir(parents=True)
    assert _model(tmp_path, 'draft_model = "drafts/small"').draft_model == str(tmp_path.resolve() / "drafts" / "small")
    assert _model(tmp_path, 'draft_model = "some/draft"').draft_model == "some/draft"


def test_home_is_known_in_all_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "t.jinja").write_text("{{ messages }}")
    (tmp_path / "work").mkdir()
    assert _model(tmp_path / "work", 'chat_template_file = "~/t.jinja"').chat_template == "{{ messages }}"
    (tmp_path / "t.jinja").write_bytes(b"caf\xe9")
    with pytest.raises(ConfigError, match=r"t\.jinja is not in UTF-8"):
        _model(tmp_path / "work", 'chat_template_file = "~/t.jinja"')


def test_servers_table_is_checked_as_flags_are(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"

    def server(line: str) -> Settings:
        file.write_text(f"[server]\n{line}\n")
        return server_of(read_config(file), file, Settings(), frozenset())

    with pytest.raises(ConfigError, match=r"models\.toml: `models_dir`: nope is no folder"):
        server('models_dir = "nope"')
    with pytest.raises(ConfigError, match=r"'example\.com' is no origin: write 'https://example\.com'"):
        server('cors_origins = ["example.com"]')
    with pytest.raises(ConfigError, match=r"'h\.example' is no address of a server"):
        server('public_url = "h.example"')
    with pytest.raises(ConfigError, match=r"`server\.host`"):
        server('host = ""')
    (tmp_path / "nope").mkdir()
    assert server('models_dir = "nope"').models_dir == tmp_path / "nope"
    assert server('cors_origins = ["https://Example.com/", "*"]').cors_origins == ("https://example.com", "*")
    assert server('public_url = "https://h.example/base/"').public_url == "https://h.example/base"


def test_what_was_read_again_is_told_in_words() -> None:
    before = [ModelSettings("a", name="a"), ModelSettings("b", name="b"), ModelSettings("c", name="c")]
    after = [ModelSettings("a", name="a"), ModelSettings("b2", name="b"), ModelSettings("d", name="d")]
    assert compare(before, after).summary() == "added d; removed c; changed b; unchanged a"
    assert compare([], []).summary() == "no models"
    later = replace(compare([], []), next_start=("cors_origins",))
    assert later.summary() == "no models; not before the next start: cors_origins"


def test_what_only_a_start_can_change_stays_and_is_named() -> None:
    running = Settings(cors_origins=("https://a.example",))
    read = Settings(cors_origins=("*",), keepalive_s=1.0)
    assert as_started(running, read) == (replace(running, keepalive_s=1.0), ("cors_origins",))
    assert as_started(running, running) == (running, ())


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("[keys.a]\n", "[keys.a] has to have either `key` or `key_file`"),
        ('[keys.a]\nkey = "x"\nkey_file = "x.key"\n', "[keys.a] has to have either `key` or `key_file`"),
        ('[keys.a]\nkey = "x y"\n', "[keys.a]: a key is not empty, and has neither spaces"),
        ('[keys.a]\nkey = "x"\n[keys.b]\nkey = "x"\n', "two tables in [keys] have the same key"),
        ('[keys.a]\nkey_file = "none.key"\n', "none.key"),
        ('[keys.a]\nkey = "x"\nmax_priority = "top"\n', "allowed are 'high', 'low', 'normal'"),
        ('[keys.a]\nkey = "x"\nrows = 1\n', "`rows` in [keys] is not known; allowed are key, key_file, max_priority"),
        ('[keys.a]\nkey = "x"\ntokens_per_minute = 0\n', "tokens_per_minute"),
    ],
)
def test_keys_that_mean_nothing_are_refused(tmp_path: Path, lines: str, said: str) -> None:
    file = tmp_path / "models.toml"
    file.write_text(lines)
    with pytest.raises(ConfigError) as refused:
        server_of(read_config(file), file, Settings(), frozenset())
    assert said in str(refused.value)


def test_keys_of_the_file_stand_beside_those_of_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text('[keys.a]\nkey = "x"\nmax_rows = 2\n')
    settings = server_of(read_config(file), file, Settings(api_keys=(ApiKey("flag"),)), frozenset())
    assert [(one.key, one.name, one.operator, one.limits.rows) for one in settings.api_keys] == [
        ("flag", None, True, None),
        ("x", "a", False, 2),
    ]
    assert "flag" not in repr(settings)
