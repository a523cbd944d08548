"""`mlx-server models search`, `pull` and `rm`: models from the hub, on the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from mlx_server.app.hub.model import HubModel
    from mlx_server.app.registry.registry import Registry
    from mlx_server.app.registry.rows import ModelRow

EXIT_MODEL = 3
EXIT_INTERRUPTED = 130
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Where the registry is kept.", file_okay=False, envvar="MLX_SERVER_DATA_DIR", show_envvar=True),
]


class SortBy(StrEnum):
    """By what models are sorted."""

    DOWNLOADS = "downloads"
    LIKES = "likes"
    CREATED = "created"
    UPDATED = "updated"


def add_to(app: typer.Typer) -> None:
    """Add the commands to an application."""
    for command in (search, pull, rm):
        app.command()(command)


def search(
    query: Annotated[str, typer.Argument(help="A part of a name, or a model's whole id.")] = "",
    limit: Annotated[int, typer.Option(help="Most models.", min=1, max=100)] = 20,
    sort: Annotated[SortBy, typer.Option(help="The order.")] = SortBy.DOWNLOADS,
    as_json: JsonFlag = False,
) -> None:
    """Search the hub for models in MLX's format.

    Example: mlx-server models search qwen3 --limit 5
    """
    from mlx_server.app.cli.console import table_console
    from mlx_server.app.hub.discovery import Hub
    from mlx_server.workers.hub.errors import HubError

    async def ask() -> list[HubModel]:
        return await Hub().search(query, limit, sort.value)

    try:
        found = asyncio.run(ask())
    except HubError as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps([facts_of(model) for model in found], indent=2))
        return
    console = table_console()
    console.print(table_of(found, console) if found else "No models found.")


def pull(
    hub_id: Annotated[str, typer.Argument(help="The model's id on the hub, as author/name.", metavar="ID")],
    name: Annotated[str | None, typer.Option(help="What it will be called here. Default: its id.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Download all of it again.")] = False,
    data_dir: DataDir = None,
    as_json: JsonFlag = False,
) -> None:
    """Download a model from the hub. Ctrl-C ends it; the next time goes on from there.

    Example: mlx-server models pull mlx-community/Qwen3-0.6B-4bit --name qwen
    """
    from mlx_server.app.machine.sizes import size
    from mlx_server.schemas.internal.errors import InvalidRequest
    from mlx_server.workers.hub.errors import HubError

    try:
        row = asyncio.run(fetch_and_install(hub_id, name or hub_id, data_dir, force=force))
    except (HubError, InvalidRequest) as error:
        fail(str(error))
    except KeyboardInterrupt:
        Console(stderr=True).print("Interrupted. The same command goes on from here.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if as_json:
        installed = {"name": row.name, "hub_id": row.hub_id, "path": row.path, "weight_bytes": row.weight_bytes}
        typer.echo(json.dumps(installed, indent=2))
        return
    Console(soft_wrap=True).print(
        f"{row.name} is here ({size(row.weight_bytes)} of weights): {row.path}", markup=False, highlight=False
    )


async def fetch_and_install(hub_id: str, name: str, data_dir: Path | None, *, force: bool) -> ModelRow:
    """Download a model and enter it into the registry. Raises HubError or InvalidRequest."""
    from mlx_server.app.hub.downloader import fetch
    from mlx_server.app.hub.installer import Installer
    from mlx_server.app.registry.rows import check_name
    from mlx_server.app.terminal.bars import bar_console
    from mlx_server.app.terminal.download_display import PullDisplay
    from mlx_server.workers.hub.access import HubAccess, check_hub_id

    check_hub_id(hub_id)
    check_name(name, "--name")
    registry = open_registry(data_dir)
    try:
        installer = Installer(registry)
        await installer.check(name, hub_id)
        with PullDisplay(bar_console(), hub_id) as display:
            folder = await fetch(hub_id, HubAccess.from_environment(), display.report, force=force)
        return await installer.install(name, hub_id, folder)
    finally:
        registry.close()


def rm(
    name: Annotated[str, typer.Argument(help="The model's name here.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete files without asking.")] = False,
    keep_files: Annotated[bool, typer.Option("--keep-files", help="Only forget the model.")] = False,
    data_dir: DataDir = None,
    as_json: JsonFlag = False,
) -> None:
    """Forget a model, and delete its files if they lie in the hub's cache and no other model has them.

    Example: mlx-server models rm qwen
    """
    asyncio.run(forget(name, data_dir, yes=yes, keep_files=keep_files, as_json=as_json))


async def forget(name: str, data_dir: Path | None, *, yes: bool, keep_files: bool, as_json: bool) -> None:
    """Do what `rm` says. Ends the command if there is no such model, or the answer is no."""
    from mlx_server.app.catalog.delete_files import bytes_in, conversions, deletable, delete, places_of
    from mlx_server.app.config.settings import default_cache_dir
    from mlx_server.app.machine.sizes import size

    registry = open_registry(data_dir)
    try:
        rows = await registry.models()
        row = model_to_forget(name, rows)
        name, known = row.name, row in rows
        named = [other.path or other.hub_id for other in rows if other.name != name]
        others = [place for model in named if model for place in places_of(model)]
        own = deletable(Path(row.path), others) if row.path and not keep_files else []
        copies = conversions(Path(row.path), others, default_cache_dir()) if row.path and not keep_files else []
        files = [*own, *copies]
        if not known and not files:
            fail(f"{name} is known by its files alone, which stay: there is nothing to forget.")
        place = ", ".join(map(str, files)) or None
        freed = bytes_in(files)
        if files and not yes:
            typer.confirm(f"Delete {size(freed)} in {place}?", abort=True, err=True)
        await registry.remove(name)
    finally:
        registry.close()
    try:
        delete(files)
    except OSError as error:
        fail(f"{name} is forgotten, but {place} can't be deleted: {error.strerror}")
    if as_json:
        typer.echo(json.dumps({"name": name, "files_removed": place, "freed_bytes": freed}))
        return
    left = f" Its files are still in {row.path}." if row.path and not own else ""
    freed_text = f" {size(freed)} are free again." if files else ""
    Console(soft_wrap=True).print(f"{name} is forgotten.{freed_text}{left}", markup=False, highlight=False)


def model_to_forget(name: str, rows: Sequence[ModelRow]) -> ModelRow:
    """The model of this name, alias or hub id, of the registry's or in the hub's cache. Ends the command if there is
    none, or several."""
    from mlx_server.app.registry.scanning import look

    if known := [row for row in rows if name in (row.name, *row.aliases)]:
        return known[0]
    names = {row.name for row in rows}
    cached = [row for row in look(rows, [], hub=True, links=True).found if row.name not in names]
    found = [row for row in (*rows, *cached) if name in (row.name, row.hub_id)]
    if not found:
        fail(f"There is no model {name!r}. `mlx-server models list` shows those that there are.")
    if len(found) > 1:
        fail(f"{name} is several models here: {', '.join(row.name for row in found)}. Say which.")
    return found[0]


def open_registry(data_dir: Path | None) -> Registry:
    """The registry that the server has; the hub's cache is where its settings say. Ends the command if it can't be
    opened."""
    from mlx_server.app.config.settings import default_data_dir
    from mlx_server.app.registry.registry import FILE, Registry
    from mlx_server.app.registry.stored import use_stored_cache
    from mlx_server.app.storage.database import StoreError

    folder = data_dir or default_data_dir()
    try:
        use_stored_cache(folder)
        return Registry.open(folder / FILE)
    except StoreError as error:
        fail(str(error))


def facts_of(model: HubModel) -> dict[str, Any]:
    """A model for programs."""
    return {
        "id": model.id,
        "name": model.name,
        "author": model.author,
        "model_type": model.model_type,
        "architecture": model.architecture,
        "quantization": model.quantisation,
        "parameters": model.parameters,
        "size_bytes": model.size_bytes,
        "estimated_memory_bytes": model.estimated_memory_bytes,
        "downloads": model.downloads,
        "likes": model.likes,
        "gated": model.gated,
        "tags": list(model.tags),
        "created_at": model.created_at.isoformat() if model.created_at else None,
        "updated_at": model.updated_at.isoformat() if model.updated_at else None,
    }


def table_of(models: Sequence[HubModel], console: Console) -> Table:
    """Models for people."""
    from mlx_server.app.catalog.kinds import flag_word
    from mlx_server.app.machine.sizes import people_count, size
    from mlx_server.app.terminal.fitting import fitting

    columns = ("id", "type", "weights", "parameters", "held as", "downloads", "likes", "updated")
    lines = []
    for model in models:
        cells = (
            model.id,
            flag_word(model.model_type),
            "-" if model.size_bytes is None else size(model.size_bytes),
            people_count(model.parameters) if model.parameters else "-",
            model.quantisation or "-",
            f"{model.downloads:,}",
            f"{model.likes:,}",
            f"{model.updated_at:%Y-%m-%d}" if model.updated_at else "-",
        )
        lines.append(cells)
    return fitting(columns, lines, console)


def fail(message: str) -> NoReturn:
    """One line on stderr, and the end."""
    console = Console(stderr=True)
    console.print("Error:", style="bold red", end=" ")
    console.print(message, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(EXIT_MODEL)
