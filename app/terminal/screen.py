"""The live feed as tables for a terminal."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mlx_server.app.machine.sizes import memory_size
from mlx_server.app.terminal.bars import ROOMY
from mlx_server.schemas.live import LiveModel, LiveRequest, LiveState, Percentiles

BLOCKS = "▁▂▃▄▅▆▇█"
PLOTTED = 60
"""Seconds whose speed is drawn."""

USUAL_ROWS = 20
MODEL_COLUMNS = ("model", "state", "rows", "wait", "tok/s", "first", "gap", "known", "memory", "restarts")
REQUEST_COLUMNS = ("request", "key", "model", "state", "age", "place", "in", "prompt", "tokens", "tok/s")
NARROW = ("model", "state", "wait", "place", "tokens", "tok/s")
"""Columns that a narrow terminal has room for."""

SHRINKING = ("model", "request", "memory", "key")
"""Columns that are cut where a terminal is narrow."""


class Screen:
    """Remembers how fast the last seconds were."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._speeds: deque[float] = deque(maxlen=PLOTTED)

    def draw(self, state: LiveState, rows: int = USUAL_ROWS, width: int = ROOMY) -> RenderableType:
        """One state, with so many requests at most, for so many columns."""
        self._speeds.append(speed_of(state))
        parts: list[RenderableType] = [heading(self._root, state), Text(f"{plot(self._speeds)} tokens/s", style="cyan")]
        parts.append(models_table(state.models, width) if state.models else Text("No models are loaded."))
        shown = state.requests[:rows]
        if shown:
            parts.append(requests_table(shown, width))
        more = len(state.requests) - len(shown) + state.more_requests
        if more:
            parts.append(Text(f"and {more} more requests", style="dim"))
        return Group(*parts)


def speed_of(state: LiveState) -> float:
    """Tokens per second, of all models."""
    return sum(model.tokens_per_s or 0.0 for model in state.models)


def heading(root: str, state: LiveState) -> Text:
    """All models together, in a line."""
    held, limit = sum(model.memory_bytes for model in state.models), state.memory_limit_bytes
    facts = (
        f"{speed_of(state):.1f} tokens/s",
        f"{sum(model.running for model in state.models)} running",
        f"{sum(model.waiting for model in state.models)} waiting",
        f"{state.too_many_requests} answers with 429",
        f"{memory_size(held)} of {memory_size(limit)}" if limit is not None else memory_size(held),
    )
    return Text.assemble((root, "bold"), "  ", "  ".join(facts))


def plot(values: Sequence[float]) -> str:
    """Values as bars; the highest fills its line."""
    top = max(values, default=0.0) or 1.0
    return "".join(BLOCKS[round(value / top * (len(BLOCKS) - 1))] for value in values)


def models_table(models: Sequence[LiveModel], width: int) -> Table:
    """A line for each."""
    lines = []
    for model in models:
        granted = f" of {memory_size(model.granted_bytes)}" if model.granted_bytes else ""
        cells = (
            model.name,
            state_of(model),
            f"{model.rows_used}/{model.rows_granted}",
            str(model.waiting),
            number(model.tokens_per_s),
            times(model.first_token_s),
            times(model.gap_s),
            "-" if model.cache_hit_rate is None else f"{model.cache_hit_rate:.0%}",
            f"{memory_size(model.memory_bytes)}{granted}",
            str(model.restarts),
        )
        lines.append(cells)
    return table_of(MODEL_COLUMNS, lines, width)


def state_of(model: LiveModel) -> str:
    """A model's state: of one that is loaded how far, of one that failed why."""
    loading = model.loading
    if loading is None:
        return model.state if model.error is None else f"{model.state}: {model.error}"
    return f"{loading.phase} {loading.done / loading.total:.0%}" if loading.total else loading.phase


def requests_table(requests: Sequence[LiveRequest], width: int) -> Table:
    """A line for each."""
    lines = []
    for request in requests:
        cells = (
            request.id or "-",
            request.key or "-",
            request.model,
            request.state,
            f"{request.age_s:.0f} s",
            number(request.position),
            "-" if request.eta_s is None else f"{request.eta_s:.0f} s",
            prompt_of(request),
            str(request.tokens),
            number(request.tokens_per_s),
        )
        lines.append(cells)
    return table_of(REQUEST_COLUMNS, lines, width)


def table_of(columns: Sequence[str], lines: Sequence[Sequence[str]], width: int) -> Table:
    """As many of the columns as there is room for."""
    shown = [at for at, column in enumerate(columns) if width >= ROOMY or column in NARROW]
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for at in shown:
        table.add_column(columns[at], no_wrap=columns[at] not in SHRINKING, overflow="ellipsis")
    for cells in lines:
        table.add_row(*(escape(cells[at]) for at in shown))
    return table


def prompt_of(request: LiveRequest) -> str:
    """How much of a prompt has been read, or of other work been done."""
    if request.job is not None:
        return f"{request.job.done}/{request.job.total} {request.job.unit}"
    if request.prompt_tokens is None:
        return "-"
    if request.state == "prefill" and request.processed_tokens is not None:
        return f"{request.processed_tokens}/{request.prompt_tokens}"
    return str(request.prompt_tokens)


def times(found: Percentiles | None) -> str:
    """The median and the 95th percentile."""
    return "-" if found is None else f"{milliseconds(found.p50)}/{milliseconds(found.p95)} ms"


def milliseconds(seconds: float) -> str:
    """Three digits at least where there are any."""
    return f"{1000 * seconds:.0f}" if seconds >= 0.01 else f"{1000 * seconds:.1f}"


def number(value: float | None) -> str:
    """A number, or a dash for none."""
    return "-" if value is None else f"{value:g}"
