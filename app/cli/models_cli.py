"""`mlx-server models`: what lies on this machine, without loading it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlx_server.app.cli import hub_cli
from mlx_server.app.cli.commands import App
from mlx_server.app.cli.hub_cli import DataDir, JsonFlag, fail

if TYPE_CHECKING:
    from mlx_server.app.registry.rows import ModelRow
    from mlx_server.app.registry.scanning import Scan

app = App(help="Look at models without loading them, and get others.")
hub_cli.add_to(app)


@app.command("list")
def list_models(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders to look in besides, and in the folders inside them.", exists=True),
    ] = None,
    data_dir: DataDir = None,
    hub: Annotated[bool, typer.Option(help="Look in the hub's cache, too.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """List the models on this machine: those that the registry knows, those in the hub's cache and in some folders.

    Example: mlx-server models list ~/models
    """
    from mlx_server.app.cli.console import table_console
    from mlx_server.app.terminal.model_tables import object_of, table_of

    models, scan = look_around(registered_models(data_dir), folders or [], hub=hub)
    if as_json:
        typer.echo(json.dumps([object_of(model) for model in models], indent=2))
    else:
        console = table_console()
        console.print(table_of(models, console) if models else "No models there.")
    for problem in scan.unreadable:
        Console(stderr=True).print(problem, markup=False, highlight=False, soft_wrap=True, style="dim")


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="A model's name, its hub id, its folder or a .gguf file.")],
    data_dir: DataDir = None,
    unread: Annotated[
        bool, typer.Option("--unread", help="Only what its config.json says and nobody looks at: answers may differ.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what a model is, what it would need, and how it is served, or why it can't be."""
    from mlx_server.app.cli.console import table_console
    from mlx_server.app.terminal.model_tables import lines_of, object_of

    found = model_named(model, data_dir)
    if unread:
        show_unread(found, as_json=as_json)
        return
    if as_json:
        typer.echo(json.dumps(object_of(found), indent=2))
    else:
        table = Table(show_header=False, box=None)
        table.add_column()
        table.add_column(overflow="fold")
        for name, value in lines_of(found):
            table.add_row(name, escape(value))
        table_console().print(table)
    check_model(found)


def check_model(row: ModelRow) -> None:
    """Ends the command for a model on this machine that can't be served."""
    from mlx_server.app.catalog.errors import NotServable
    from mlx_server.app.catalog.served_type import check

    if row.path is not None:
        try:
            check(row.path, row.type.model_type)
        except NotServable as error:
            fail(str(error))


def show_unread(model: ModelRow, *, as_json: bool) -> None:
    """What nobody looks at in a model's settings, beside what would be usual for its type."""
    from mlx_server.app.cli.console import table_console
    from mlx_server.app.config.settings import default_cache_dir
    from mlx_server.app.doctor.model_findings import NOT_CONVERTED
    from mlx_server.app.doctor.unread import comparison_of, unread_of
    from mlx_server.workers.folders.model_files import NotAModel

    try:
        rows = unread_of(model, default_cache_dir())
        told = comparison_of(model, default_cache_dir())
    except NotAModel as error:
        fail(str(error))
    if rows is None:
        fail(f"{NOT_CONVERTED}: load it once, and look again.")
    if as_json:
        typer.echo(json.dumps([vars(row) for row in rows], indent=2))
    elif rows:
        table = Table("file", "key", "value", "usual for its type")
        for row in rows:
            table.add_row(*(escape(text) for text in (row.file, row.key, json.dumps(row.value), json.dumps(row.usual))))
        table_console().print(table)
    else:
        typer.echo("All that its files say is looked at, or known to change no answer.")
    if not as_json:
        for note in told:
            typer.echo(f"Note: {note}")


def registered_models(data_dir: Path | None) -> list[ModelRow]:
    """What the registry knows. There is nothing in one that there is not, and none is made."""
    from mlx_server.app.config.settings import default_data_dir
    from mlx_server.app.registry.registry import FILE

    with contextlib.suppress(OSError):  # which is told when it is opened
        if not ((data_dir or default_data_dir()) / FILE).exists():
            return []
    registry = hub_cli.open_registry(data_dir)
    try:
        return asyncio.run(registry.models())
    finally:
        registry.close()


def look_around(rows: Sequence[ModelRow], folders: Sequence[Path], *, hub: bool) -> tuple[list[ModelRow], Scan]:
    """The models by their names, as their files are now; and what is new of them. The registry is not told."""
    from mlx_server.app.registry.scanning import look

    scan = look(rows, folders, hub=hub, links=True)
    gone = {row.name for row in scan.gone}
    models = {row.name: row for row in [*rows, *scan.found] if row.name not in gone}
    return sorted(models.values(), key=lambda row: row.name), scan


def model_named(model: str, data_dir: Path | None) -> ModelRow:
    """The model in a folder or file, or of a name. Ends the command if there is none."""
    return model_in_folder(Path(model)) if os.path.exists(model) else model_called(model, data_dir)


def model_in_folder(path: Path) -> ModelRow:
    """The model in a folder or a file. Ends the command if there is none."""
    from mlx_server.app.catalog.model_folder import read_model
    from mlx_server.app.registry.rows import ModelRow
    from mlx_server.app.registry.scanning import Candidate, described
    from mlx_server.workers.folders.model_files import NotAModel

    absolute = path.absolute()
    name = absolute.stem if absolute.suffix == ".gguf" else absolute.name
    try:
        return described(ModelRow(name=name), Candidate(absolute, name), read_model(absolute), None)
    except NotAModel as error:
        fail(str(error))
    except OSError as error:
        fail(f"{path} can't be read: {error.strerror or error}")


def model_called(name: str, data_dir: Path | None) -> ModelRow:
    """The model of this name, alias or hub id. Ends the command if there is none."""
    models, _ = look_around(registered_models(data_dir), [], hub=True)
    found = next((row for row in models if name in (row.name, row.hub_id, *row.aliases)), None)
    if found is None:
        fail(f"There is no model {name!r}. `mlx-server models list` shows those that there are.")
    return found
