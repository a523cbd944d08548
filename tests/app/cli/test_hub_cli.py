"""`mlx-server models search`, `pull` and `rm`, as real commands against a hub on this machine."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.running.hub import LocalHub, repo_of, running
from support.running.servers import wait_for
from support.running.stored import store

ID = "mlx-community/tiny-llama-4bit"


@pytest.fixture
def hub(tiny_model: Callable[[str], Path]) -> Iterator[LocalHub]:
    tiny = repo_of(tiny_model("llama"), ID, downloads=1234, likes=5, parameters={"U32": 1000, "F16": 100})
    with running(LocalHub(tiny)) as local:
        yield local


@pytest.fixture
def start(hub: LocalHub, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    def start(*arguments: str, cache: str | None = str(tmp_path / "cache")) -> subprocess.Popen[str]:
        others = {name: value for name, value in os.environ.items() if name != "HF_HUB_CACHE"}
        return subprocess.Popen(
            [sys.executable, "-m", "mlx_server.app", "models", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # What runs in a shell's background ignores SIGINT, and so would what it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - it sets a handler, no more
            env={
                **others,
                "HF_ENDPOINT": hub.url,
                **({"HF_HUB_CACHE": cache} if cache else {"HF_HOME": str(tmp_path / "home")}),
                "HF_TOKEN": "",
                "MLX_SERVER_DATA_DIR": str(tmp_path / "data"),
                "COLUMNS": "160",
            },
        )

    return start


@pytest.fixture
def models(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str, answer: str = "", **how: str | None) -> tuple[int, str, str]:
        process = start(*arguments, **how)
        output, errors = process.communicate(answer, timeout=60)
        return process.returncode, output, errors

    return run


Run = Callable[..., tuple[int, str, str]]


def test_search_shows_a_table_or_json(models: Run) -> None:
    code, output, _ = models("search", "tiny")
    assert code == 0
    assert ID in output
    assert "1,234" in output
    _, output, _ = models("search", "tiny", "--json")
    [found] = json.loads(output)
    assert (found["id"], found["quantization"], found["size_bytes"]) == (ID, "4-bit", 4200)
    assert models("search", "none")[1] == "No models found.\n"


def test_what_was_pulled_can_be_removed(models: Run, tmp_path: Path) -> None:
    code, output, errors = models("pull", ID, "--name", "tiny")
    assert code == 0, errors
    assert output.startswith("tiny is here (")
    assert f"{ID}: " in errors
    folder = tmp_path / "cache" / "models--mlx-community--tiny-llama-4bit"
    assert folder.is_dir()
    code, _, errors = models("pull", "mlx-community/other", "--name", "tiny")
    assert (code, "already the name of" in errors) == (3, True)
    code, _, errors = models("rm", "tiny", answer="n\n")
    assert (code, "Delete " in errors, folder.is_dir()) == (1, True, True)
    code, output, _ = models("rm", "tiny", answer="y\n")
    assert (code, folder.is_dir()) == (0, False)
    assert "tiny is forgotten" in output
    code, _, errors = models("rm", "tiny")
    assert (code, "There is no model 'tiny'" in errors) == (3, True)


def test_what_was_pulled_into_a_cache_that_is_a_link_can_be_removed(models: Run, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "disk")
    assert models("pull", ID, "--name", "tiny")[0] == 0
    [row] = json.loads(models("list", "--json")[1])
    removed = json.loads(models("rm", "tiny", "--yes", "--json")[1])
    folder = tmp_path.resolve() / "disk" / "models--mlx-community--tiny-llama-4bit"
    assert row["path"].startswith(str(folder))
    assert removed["files_removed"] == str(folder)
    assert not folder.exists()


def test_commands_keep_files_where_the_settings_say(models: Run, tmp_path: Path) -> None:
    store(tmp_path / "data", huggingface_cache_dir=str(tmp_path / "set"))
    assert models("pull", ID, "--name", "tiny", cache=None)[0] == 0
    folder = tmp_path / "set" / "models--mlx-community--tiny-llama-4bit"
    assert folder.is_dir()
    assert [row["name"] for row in json.loads(models("list", "--json", cache=None)[1])] == ["tiny"]
    assert models("rm", "tiny", "--yes", cache=None)[0] == 0
    assert not folder.exists()


def test_files_that_another_model_has_or_that_are_to_be_kept_stay(models: Run, tmp_path: Path) -> None:
    assert [models("pull", ID, "--name", name)[0] for name in ("one", "two")] == [0, 0]
    folder = tmp_path / "cache" / "models--mlx-community--tiny-llama-4bit"
    removed = json.loads(models("rm", "one", "--yes", "--json")[1])
    assert removed == {"name": "one", "files_removed": None, "freed_bytes": 0}
    assert "still in" in models("rm", "two", "--keep-files")[1]
    assert folder.is_dir()
    pulled = json.loads(models("pull", ID, "--json")[1])
    assert (pulled["name"], pulled["hub_id"]) == (ID, ID)
    removed = json.loads(models("rm", ID, "--yes", "--json")[1])
    assert removed["files_removed"] == str(folder)
    assert removed["freed_bytes"] > pulled["weight_bytes"]
    assert not folder.is_dir()


def weights_have_begun(cache: Path) -> bool:
    """Some of them are there, in a file named by a SHA-256. Small files have shorter names, and are soon whole."""
    with suppress(FileNotFoundError):
        return any(path.stat().st_size > 0 for path in cache.rglob(f"{'?' * 64}.incomplete"))
    return False


def test_an_interrupted_pull_is_gone_on_with(
    start: Callable[..., subprocess.Popen[str]], models: Run, hub: LocalHub, tmp_path: Path
) -> None:
    hub.repos[ID].pause_s = 2.0
    process = start("pull", ID)
    wait_for(lambda: weights_have_begun(tmp_path / "cache"))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "goes on from here" in errors
    assert "Traceback" not in errors
    hub.repos[ID].pause_s = 0.0
    hub.requests.clear()
    assert models("pull", ID)[0] == 0
    assert any(request.range for request in hub.asked_for("/lfs/"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pull", "mlx-community/none"), "There is no model mlx-community/none on the hub"),
        (("pull", ID, "--name", "../x"), "is no name of a model"),
    ],
)
def test_what_cannot_be_pulled_is_one_line(models: Run, arguments: tuple[str, ...], message: str) -> None:
    code, output, errors = models(*arguments)
    assert (code, output) == (3, "")
    assert message in errors
    assert len(errors.splitlines()) == 1
