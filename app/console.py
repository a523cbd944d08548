"""What a person at the terminal sees while the server starts."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from mlx_server.app.settings import ModelType
from mlx_server.schemas.messages import Loading, ModelFacts

PLAIN_STEP = 0.25
"""Without a terminal, loading is told in quarters."""

CHAT = (
    "chat/completions",
    '{"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}',
)
EXAMPLES = {
    "embeddings": ("embeddings", '{"input": ["A cat sleeps.", "Rates rose."]}'),
    "rerank": ("rerank", '{"query": "a cat sleeps", "documents": ["A kitten naps.", "Rates rose."]}'),
}
"""A first request to models that write no text: its path and its body."""


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


class StartDisplay:
    """A progress bar on a terminal, plain lines elsewhere; then what was loaded and how to try it."""

    def __init__(self, console: Console, name: str, url: str, model_type: ModelType) -> None:
        self._console = console
        self._name = name
        self._url = url
        self._example = EXAMPLES.get(model_type, CHAT)
        self._phase = ""
        self._told = 0.0
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def loading(self, loading: Loading) -> None:
        """The start goes on."""
        if self._console.is_terminal:
            self._show_bar(loading)
        else:
            self._print_line(loading)

    def ready(self, facts: ModelFacts) -> None:
        """The model answers."""
        self.close()
        context = f", context {facts.context_length:,} tokens" if facts.context_length else ""
        self._console.print(
            f"[bold green]Ready[/]: {escape(self._name)} ({facts.architecture}, {size(facts.parameter_bytes)}{context})"
            f" on {escape(facts.device)}, {facts.rows} at a time",
            soft_wrap=True,
        )
        for note in facts.notes:
            self._console.print(f"Note: {note}", markup=False, soft_wrap=True)
        self._console.print(f"Listening on {self._url} (Ctrl-C stops). Try:", markup=False, soft_wrap=True)
        path, body = self._example
        self._console.print(
            f"  curl {self._url}/v1/{path} -H 'Content-Type: application/json' -d '{body}'",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def close(self) -> None:
        """Take the bar away. Idempotent."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        self._phase, self._told = "", 0.0

    def _show_bar(self, loading: Loading) -> None:
        if self._progress is None:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                DownloadColumn(),
                TimeElapsedColumn(),
            )
            self._progress = Progress(*columns, console=self._console, transient=True)
            self._progress.start()
            self._task = self._progress.add_task("")
        assert self._task is not None
        self._progress.update(
            self._task,
            description=f"{self._name}: {loading.phase}",
            total=loading.total or None,
            completed=loading.done,
        )

    def _print_line(self, loading: Loading) -> None:
        share = loading.done / loading.total if loading.total else 0.0
        if loading.phase == self._phase and share < self._told + PLAIN_STEP and share < 1:
            return
        if loading.phase == self._phase and share == self._told:
            return
        self._phase, self._told = loading.phase, share
        done = f" {size(loading.done)} of {size(loading.total)}" if loading.total else ""
        self._console.print(f"{self._name}: {loading.phase}{done}", markup=False, highlight=False, soft_wrap=True)
