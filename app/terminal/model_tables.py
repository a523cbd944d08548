"""Models on this machine, as tables for people and as objects for programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from mlx_server.app.machine.sizes import memory_size, people_count, size
from mlx_server.app.registry.rows import KV_BYTES, ModelRow
from mlx_server.app.terminal.fitting import fitting

COLUMNS = ("name", "type", "architecture", "weights", "parameters", "held as", "context", "used", "where")


def merged(models: Iterable[ModelRow]) -> list[ModelRow]:
    """Models by their files: those that several launches have named differently are one, by the name that comes first,
    with the others as aliases."""
    found: dict[str, ModelRow] = {}
    for model in models:
        files = model.path or f"hub {model.hub_id} {model.name}"
        first = found.setdefault(files, model)
        if first is not model:
            found[files] = replace(first, aliases=(*first.aliases, model.name, *model.aliases))
    return list(found.values())


def table_of(models: Iterable[ModelRow], console: Console) -> Table:
    """A line for each, by its files."""
    lines = []
    for model in merged(models):
        cells = (
            ", ".join((model.name, *model.aliases)),
            model.type.model_type,
            model.architecture or "-",
            size(model.weight_bytes) if model.weight_bytes else "-",
            people_count(model.parameters) if model.parameters else "-",
            model.quantisation or "-",
            f"{model.context_length:,}" if model.context_length else "-",
            f"{model.last_used_at:%Y-%m-%d}" if model.last_used_at else "-",
            model.path or "not on this machine",
        )
        lines.append(cells)
    return fitting(COLUMNS, lines, console)


def lines_of(model: ModelRow) -> list[tuple[str, str]]:
    """All that is known of one model, and how it would be served."""
    kv = model.metadata.get(KV_BYTES)
    details = [
        ("name", ", ".join((model.name, *model.aliases))),
        ("path", model.path or "not on this machine"),
        ("hub id", f"{model.hub_id} at {model.version or 'an unknown version'}" if model.hub_id else "-"),
        ("type", model.type.model_type),
        ("architecture", model.architecture or "-"),
        ("weights", size(model.weight_bytes)),
        ("parameters", people_count(model.parameters) if model.parameters else "-"),
        ("held as", model.quantisation or "-"),
        ("context", f"{model.context_length:,} tokens" if model.context_length else "-"),
        ("KV cache", f"{memory_size(kv)} a token, in half precision" if kv else "-"),
    ]
    if kv and model.context_length:
        details.append(("one full context", memory_size(kv * model.context_length)))
    if model.use_count:
        details.append(("used", f"{model.use_count:,} times, last {model.last_used_at:%Y-%m-%d %H:%M} UTC"))
    if model.error_message:
        details.append(("last error", model.error_message))
    return details


def object_of(model: ModelRow) -> dict[str, Any]:
    """The same for programs; times are ISO 8601, in UTC."""
    return {
        "name": model.name,
        "aliases": list(model.aliases),
        "type": model.type.model_type,
        "path": model.path,
        "hub_id": model.hub_id,
        "version": model.version,
        "architecture": model.architecture,
        "quantization": model.quantisation,
        "weight_bytes": model.weight_bytes,
        "parameters": model.parameters,
        "context_length": model.context_length,
        "kv_bytes_per_token": model.metadata.get(KV_BYTES),
        "use_count": model.use_count,
        "last_used_at": model.last_used_at.isoformat() if model.last_used_at else None,
        "error_message": model.error_message,
    }
