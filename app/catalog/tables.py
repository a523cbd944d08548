"""Models on this machine, as tables for people."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from mlx_server.app.catalog.model_facts import MODEL_TYPES, ModelOnDisk
from mlx_server.app.console import size


def count(parameters: int | None) -> str:
    """A number of parameters as people say it: 135M, 7.2B."""
    if parameters is None:
        return "-"
    millions = parameters / 1e6
    return f"{millions / 1000:.1f}B" if millions >= 1000 else f"{millions:.3g}M"


def table_of(models: Iterable[ModelOnDisk]) -> Table:
    """A line for each."""
    table = Table("model", "kind", "architecture", "weights", "parameters", "held as", "context")
    for model in models:
        context = f"{model.context_length:,}" if model.context_length else "-"
        held = model.quantisation or "-"
        weights, parameters = size(model.weight_bytes), count(model.parameters)
        table.add_row(str(model.path), model.kind.value, model.architecture, weights, parameters, held, context)
    return table


def lines_of(model: ModelOnDisk) -> list[tuple[str, str]]:
    """All that is known of one model, and how it would be served."""
    kv = model.kv_bytes_per_token
    served = MODEL_TYPES.get(model.kind)
    known = [
        ("path", str(model.path)),
        ("kind", model.kind.value),
        ("served with", f"--model-type {served}" if served else "nothing: this kind is not served"),
        ("architecture", model.architecture),
        ("weights", size(model.weight_bytes)),
        ("parameters", count(model.parameters)),
        ("held as", model.quantisation or "-"),
        ("context", f"{model.context_length:,} tokens" if model.context_length else "-"),
        ("KV cache", f"{size(kv)} a token, in half precision" if kv else "-"),
    ]
    if kv and model.context_length:
        known.append(("one full context", size(kv * model.context_length)))
    return known
