"""The command line: what it teaches, what it refuses before anything is loaded, and every way to say the same."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from support.inputs.command_lines import TERMINAL, CommandLines, command_lines
from support.running.servers import ROOT, SCRIPTED, Server

from mlx_server.app import __version__
from mlx_server.app.cli.cli import app
from mlx_server.app.cli.commands import FIRST

SCRIPT = Path(sys.executable).parent / "mlx-server"
MODULE = (sys.executable, "-m", "mlx_server.app")
CHECKOUT = (sys.executable, "-m", "app.main")
EXIT_USAGE = 2
FLAGS = {
    "--model",
    "--config",
    "--models-dir",
    "--max-models",
    "--memory-limit",
    "--idle-timeout",
    "--pin",
    "--auto-download",
    "--accelerator-lease",
    "--model-path",
    "--model-type",
    "--model-name",
    "--host",
    "--port",
    "--max-concurrency",
    "--queue-size",
    "--queue-timeout",
    "--drain-timeout",
    "--default-max-tokens",
    "--api-key",
    "--log-level",
    "--cpu-dtype",
    "--kv-bits",
    "--kv-memory-mb",
    "--max-itl-ms",
    "--prefix-cache-mb",
    "--prompt-cache-dir",
    "--prompt-cache-mb",
    "--warm-prompt",
    "--adapter-path",
    "--adapter-dir",
    "--draft-model",
    "--num-draft-tokens",
    "--chat-template",
    "--chat-template-args",
    "--use-default-chat-template",
    "--private-media-urls",
    "--allowed-media-dir",
    "--max-media-mb",
    "--max-media-files",
    "--media-timeout",
    "--max-image-pixels",
    "--max-media-seconds",
    "--feature-cache-mb",
    "--batch-tokens",
}


def run(*command: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **TERMINAL}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT, env=env, timeout=60)


@pytest.fixture(scope="module")
def lines() -> Iterator[CommandLines]:
    """For what is refused, whichever way the command was started."""
    with command_lines() as lines:
        yield lines


@pytest.mark.parametrize("command", [(SCRIPT,), MODULE, CHECKOUT], ids=["script", "module", "checkout"])
def test_version_is_told(command: tuple[object, ...]) -> None:
    done = run(*command, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"mlx-server {__version__}\n", "")


@pytest.mark.parametrize("command", [(SCRIPT,), MODULE, CHECKOUT], ids=["script", "module", "checkout"])
def test_help_names_the_commands(command: tuple[object, ...]) -> None:
    done = run(*command, "--help")
    assert done.returncode == 0
    assert re.findall(r"^│ (\w+)  ", done.stdout, re.MULTILINE)[:7] == [*FIRST, "doctor"]
    assert "demo" in done.stdout


def commands(group: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A command and all below it, with what has to be typed."""
    yield names, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, *names, name)


PYTHON = re.compile(r"<|…|\[[\dx]|\b(?:bool|int|float|str)\b|list\[")
"""What a type of Python's, a range of numbers as typer writes it, and a cut name have in them."""

TREE = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("names", TREE, ids=" ".join)
def test_help_tells_all_of_a_command_in_words(
    names: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    context = TREE[names].make_context(" ".join(("mlx-server", *names)), ["-h"], resilient_parsing=True)
    parameters, told = TREE[names].get_params(context), TREE[names].get_help(context) + capsys.readouterr().out
    assert PYTHON.findall(told) == []
    for parameter in parameters[:-1]:  # the last one is --help
        assert parameter.help, parameter.name
        shown = [*parameter.opts, *parameter.secondary_opts]
        if not shown[0].startswith("-"):
            shown = [(parameter.metavar or parameter.name).upper()]
        for word in shown:
            assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", told), word
    assert max(map(len, told.splitlines())) <= 80


@pytest.mark.parametrize("command", [(SCRIPT, "launch"), (*CHECKOUT, "launch")], ids=["script", "checkout"])
def test_help_of_launch_has_every_flag(command: tuple[object, ...]) -> None:
    done = run(*command, "--help")
    assert done.returncode == 0
    assert set(re.findall(r"--[a-z][a-z-]+", done.stdout)) >= FLAGS
    for part in ("[MODEL]", "lm or vlm or embeddings or rerank", "127.0.0.1", "8000", "300", "4096", "MLX_SERVER_"):
        assert part in done.stdout, part


REFUSED: list[tuple[list[object], str]] = [
    (["--port", 70000], "--port"),
    (["--port", -1], "--port"),
    (["--port", "http"], "'--port' (env var: MLX_SERVER_PORT or MLX_GUI_PORT): "),
    (["--max-concurrency", 0], "--max-concurrency"),
    (["--max-concurrency", "many"], "--max-concurrency"),
    (["--queue-size", -1], "--queue-size"),
    (["--queue-timeout", 0], "--queue-timeout"),
    (["--queue-timeout", "nan"], "--queue-timeout"),
    (["--queue-timeout", "inf"], "--queue-timeout"),
    (["--drain-timeout", -1], "--drain-timeout"),
    (["--step-timeout", 0], "--step-timeout"),
    (["--default-max-tokens", 0], "--default-max-tokens"),
    (["--prefill-step-size", 1], "--prefill-step-size"),
    (["--max-body-bytes", 10], "--max-body-bytes"),
    (["--log-level", "loud"], "MLX_OMNI_LOG_LEVEL): 'loud' is not one of 'debug'"),
    (["--adapter-path", "/nonesuch"], "--adapter-path"),
    (["--adapter-dir", "/nonesuch"], "--adapter-dir"),
    (["--num-draft-tokens", 0], "--num-draft-tokens"),
    (["--num-draft-tokens", 65], "--num-draft-tokens"),
    (["--chat-template", "/no/such/file"], "--chat-template"),
    (["--chat-template", "/dev/null"], "--chat-template"),
    (["--chat-template", sys.executable], "--chat-template"),
    (["--chat-template-args", "{"], "--chat-template-args"),
    (["--chat-template-args", "[]"], "--chat-template-args"),
    (["--chat-template-args", "foo"], "'foo' is no JSON object; write one such as '{\"enable_thinking\": false}'"),
    (["--chat-template-args", '{"x": 100000000000000000000}'], "64 bits"),
    (["--kv-bits", "7"], "'7' is none of 4, 5, 6, 8, nor bits of layers such as 4x12,8x6,4x12."),
    (["--model-type", "vln"], "'vln' is not one of 'lm', 'vlm', 'embeddings', 'rerank', 'audio', 'image'."),
    (["--no-such-flag"], "--no-such-flag"),
    (["sur/plus"], "More models have a flag: --model sur/plus"),
]


@pytest.mark.parametrize(("arguments", "part"), REFUSED, ids=lambda value: " ".join(map(str, value)))
def test_bad_value_is_refused_before_anything_is_loaded(
    lines: CommandLines, arguments: list[object], part: str
) -> None:
    done = lines.run("launch", *SCRIPTED, *arguments)
    assert done.returncode == EXIT_USAGE, done
    assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert "importing" not in done.stderr


def test_process_of_its_own_refuses_the_same() -> None:
    for arguments, part in (REFUSED[0], REFUSED[-1]):
        done = run(*MODULE, "launch", *SCRIPTED, *arguments)
        assert done.returncode == EXIT_USAGE, done
        assert part in done.stderr
        assert "Traceback" not in done.stderr
        assert "importing" not in done.stderr


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("download", "mlx-server pull ID"),
        ("ls", "mlx-server list"),
        ("remove", "mlx-server rm NAME"),
        ("serve", "mlx-server launch MODEL"),
        ("chat", "mlx-server run MODEL"),
        ("status", "mlx-server ps"),
        ("monitor", "mlx-server top"),
        ("stop", "Ctrl-C, or mlx-server service remove"),
        ("help", "mlx-server --help"),
        ("version", "mlx-server --version"),
    ],
)
def test_command_of_another_program_is_told_what_it_is_here(lines: CommandLines, command: str, meant: str) -> None:
    done = lines.run(command, "some/model")
    assert done.returncode == EXIT_USAGE
    assert f"No such command '{command}'. Use: {meant}" in done.stderr


@pytest.mark.parametrize("flag", ["--adapter-path", "--adapter-dir", "--draft-model"])
@pytest.mark.parametrize("kind", ["vlm", "embeddings", "rerank"])
def test_flag_that_means_nothing_for_the_type_is_refused(lines: CommandLines, kind: str, flag: str) -> None:
    done = lines.run("launch", "--model-path", "some/model", "--model-type", kind, flag, ROOT)
    assert done.returncode == EXIT_USAGE, done
    assert f"'{flag}'" in done.stderr
    assert f"means nothing for --model-type {kind}" in done.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--model-name", "x"), "names the model of --model-path, which is missing"),
        (("--model", "../x=scripted"), "can't be a model's name"),
        (("--model", "a=scripted", "--model", "a=scripted"), "two models are called 'a'"),
        (("--model", "a=scripted", "--pin", "x"), "there is no model 'x'"),
        (("--memory-limit", "much"), "must be a number of GiB"),
    ],
)
def test_flags_about_models_that_make_no_sense_are_refused(
    lines: CommandLines, flags: tuple[str, ...], said: str
) -> None:
    done = lines.run("launch", "--model-type", "scripted", *flags)
    assert done.returncode == EXIT_USAGE, done
    assert said in done.stderr


def test_environment_says_what_flags_say(launch: Callable[..., Server]) -> None:
    env = {
        "MLX_SERVER_MODEL_PATH": "scripted",
        "MLX_SERVER_MODEL_TYPE": "scripted",
        "MLX_SERVER_MODEL_NAME": "from/the-environment",
        "MLX_SERVER_PORT": "0",
        "MLX_SERVER_MAX_CONCURRENCY": "3",
        "MLX_SERVER_QUEUE_SIZE": "7",
        "MLX_SERVER_QUEUE_TIMEOUT": "60",
        "MLX_SERVER_REQUEST_TIMEOUT": "0.7",
        "MLX_SERVER_KEEPALIVE": "0",
        "MLX_SERVER_DEFAULT_MAX_TOKENS": "5",
        "MLX_SERVER_MAX_BODY_BYTES": "2048",
        "MLX_SERVER_LOG_LEVEL": "error",
    }
    server = launch("--queue-size", 8, command=("-m", "mlx_server.app", "launch"), env=env)
    stats = server.stats()
    assert (stats["max_concurrency"], stats["max_queue_size"]) == (3, 8), "a flag wins over its variable"
    assert server.get("/v1/models").json()["data"][0]["id"] == "from/the-environment"
    assert server.chat({"tokens": 50}).json()["usage"]["completion_tokens"] == 5
    assert server.chat({"first_token_s": 60}).json()["detail"].endswith("after 0.7 seconds in all (--request-timeout)")
    assert server.post("/v1/chat/completions", b" " * 2049).status_code == 413
    assert "INFO" not in server.output()


def test_model_without_a_flag_wins_over_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_SERVER_MODEL_PATH", "a")
    launch = TREE["launch",]
    for words, model in (([], "a"), (["b"], "b"), (["--model-path", "b"], "b")):
        assert launch.make_context("mlx-server launch", words).params["model_path"] == model
    with pytest.raises(Exception, match="Got an unexpected argument, 'c'"):
        launch.make_context("mlx-server launch", ["--model-path", "b", "c"])


def test_empty_address_is_refused_and_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_SERVER_HOST", "")
    launch = TREE["launch",]
    assert launch.make_context("mlx-server launch", []).params["host"] == "127.0.0.1"
    with pytest.raises(typer.BadParameter, match="an empty address would let everybody in"):
        launch.make_context("mlx-server launch", ["--host", ""])
    monkeypatch.setenv("MLX_SERVER_HOST", " ")
    with pytest.raises(typer.BadParameter, match="an empty address would let everybody in"):
        launch.make_context("mlx-server launch", [])


def test_process_of_mlx_launch_is_told_how_ranks_are_started() -> None:
    env = os.environ | {"MLX_RANK": "1"}
    done = subprocess.run([*MODULE, "launch", *SCRIPTED], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: mlx.launch started this: start the server itself, with --hosts")


def test_bad_value_in_the_environment_is_refused() -> None:
    env = {**os.environ, "MLX_SERVER_PORT": "99999", "NO_COLOR": "1", "COLUMNS": "200"}
    done = subprocess.run([*MODULE, "launch", *SCRIPTED], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == EXIT_USAGE
    assert "MLX_SERVER_PORT" in done.stderr or "--port" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "app.main", "--port", "0"),
        ("-m", "app.main", "launch", "--port", "0"),
        ("-m", "mlx_server.app", "launch", "--port", "0"),
        (str(SCRIPT), "launch", "--port", "0"),
    ],
    ids=["app.main", "app.main launch", "mlx_server.app", "mlx-server"],
)
def test_server_is_started_in_every_documented_way(launch: Callable[..., Server], command: tuple[str, ...]) -> None:
    server = launch(*SCRIPTED, command=command)
    assert server.chat("hi").status_code == 200
    assert server.stop() == 0


def test_references_command_line_is_accepted(launch: Callable[..., Server]) -> None:
    flags = ("--max-concurrency", 1, "--queue-timeout", 300, "--queue-size", 100)
    server = launch(*SCRIPTED, *flags, command=("-m", "app.main", "--port", "0"))
    stats = server.stats()
    assert (stats["max_concurrency"], stats["max_queue_size"]) == (1, 100)


def test_open_address_without_a_key_is_warned_of(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--host", "0.0.0.0", wait=False)
    server.wait_listening()
    assert "WARNING server anyone who reaches 0.0.0.0 may use this server: there is no --api-key" in server.output()


def test_server_on_ipv6_answers(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--host", "::1", wait=False)
    server.wait_until(lambda: "Listening on http://[::1]:" in server.output())
    [address] = re.findall(r"Listening on (http://\[::1\]:\d+)", server.output())
    assert server.http.get(f"{address}/health").status_code == 200
