"""`mlx-server models search`, `pull` and `rm`: models from the hub, on the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from mlx_server.app.hub.model import HubModel


class SortBy(StrEnum):
    """By what models are sorted."""

    DOWNLOADS = "downloads"
    LIKES = "likes"
    CREATED = "created"
    UPDATED = "updated"


def search(
    query: Annotated[str, typer.Argument(help="A part of a name, or a model's whole id.")] = "",
    limit: Annotated[int, typer.Option(help="Most models.", min=1, max=100)] = 20,
    sort: Annotated[SortBy, typer.Option(help="The order.")] = SortBy.DOWNLOADS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Search the hub for models in MLX's format.

    Example: mlx-server models search qwen3 --limit 5
    """
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
    Console(soft_wrap=True).print(table_of(found) if found else "No models found.")


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


def table_of(models: Sequence[HubModel]) -> Table:
    """Models for people."""
    from mlx_server.app.console import size
    from mlx_server.app.hub.model import people_count

    table = Table("id", "type", "weights", "parameters", "held as", "downloads", "likes", "updated")
    for model in models:
        table.add_row(
            model.id,
            model.model_type,
            "-" if model.size_bytes is None else size(model.size_bytes),
            people_count(model.parameters) if model.parameters else "-",
            model.quantisation or "-",
            f"{model.downloads:,}",
            f"{model.likes:,}",
            f"{model.updated_at:%Y-%m-%d}" if model.updated_at else "-",
        )
    return table


def fail(message: str) -> Any:
    """One line on stderr, and the end."""
    Console(stderr=True).print(f"[bold red]Error:[/] {message}", highlight=False, soft_wrap=True)
    raise typer.Exit(3)
