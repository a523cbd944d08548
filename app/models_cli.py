"""`mlx-server models`: what lies on this machine, without loading it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mlx_server.app import hub_cli

EXIT_MODEL = 3

app = typer.Typer(help="Look at models without loading them, and get others.", no_args_is_help=True)
hub_cli.add_to(app)


@app.command("list")
def list_models(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders to look in, and in the folders inside them.", exists=True)
    ],
) -> None:
    """List the models in some folders: what they are, and how large.

    Example: mlx-server models list ~/models
    """
    from mlx_server.app.catalog.model_folder import find_models
    from mlx_server.app.catalog.tables import table_of

    found = [model for folder in folders for model in find_models(folder)]
    Console(soft_wrap=True).print(table_of(found) if found else "No models there.")


@app.command()
def show(path: Annotated[Path, typer.Argument(help="A model folder or a .gguf file.", exists=True)]) -> None:
    """Show what a model is, what it would need, and how it is served."""
    from mlx_server.app.catalog.model_facts import NotAModel
    from mlx_server.app.catalog.model_folder import read_model
    from mlx_server.app.catalog.tables import lines_of

    try:
        known = lines_of(read_model(path))
    except NotAModel as error:
        Console(stderr=True).print(f"[bold red]Error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_MODEL) from None
    table = Table(show_header=False, box=None)
    for line in known:
        table.add_row(*line)
    Console(soft_wrap=True).print(table)
