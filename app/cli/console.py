"""What a person at the terminal sees while the server starts."""

from __future__ import annotations

import json
import logging
import shlex
from typing import IO

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TimeElapsedColumn
from rich.text import Text

from mlx_server.app.config.settings import ModelType
from mlx_server.app.machine.sizes import memory_size, size
from mlx_server.app.terminal.bars import bars
from mlx_server.schemas.internal.messages import Loading, ModelFacts

PLAIN_STEP = 0.25
"""Without a terminal, loading is told in quarters."""

CHAT = (
    "chat/completions",
    '{"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}',
)
TEXT = ("completions", '{"prompt": "The capital of France is", "max_tokens": 16, "temperature": 0}')
EXAMPLES = {
    "embeddings": ("embeddings", '{"input": ["A cat sleeps.", "Rates rose."]}'),
    "audio": ("audio/speech", '{"input": "The rain in Spain stays mainly in the plain."}'),
    "rerank": ("rerank", '{"query": "a cat sleeps", "documents": ["A kitten naps.", "Rates rose."]}'),
    "image": ("images/generations", '{"prompt": "a red circle at the top left"}'),
}
"""A first request to models that write no text: its path and its body."""


RED_SQUARE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQMAAACQp+OdAAAAA1BMVEXgICCg"
    "cukQAAAAD0lEQVR42mNgGAWjgHwAAAJAAAHgTR1EAAAAAElFTkSuQmCC"
)
"""A picture of 64 by 64 pixels."""
PICTURE = (
    "chat/completions",
    '{"messages": [{"role": "user", "content": [{"type": "text", "text": "What colour is this?"},'
    f' {{"type": "image_url", "image_url": {{"url": "{RED_SQUARE}"}}}}]}}], "temperature": 0}}',
)


def example(model_type: ModelType, facts: ModelFacts) -> tuple[str, str]:
    """A request that this model answers: its path and its body."""
    if facts.transcribes:
        return "audio/transcriptions", ""
    writes = (PICTURE if "image" in facts.media else CHAT) if facts.chats else TEXT
    return EXAMPLES.get(model_type, writes)


class ConsoleHandler(logging.StreamHandler[IO[str]]):
    """Logs through a console on a terminal, so that lines stand above its bars and not in them."""

    def __init__(self, console: Console) -> None:
        super().__init__(console.file)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Part of logging."""
        try:
            self._console.print(Text(self.format(record)), soft_wrap=True)
        except Exception:  # noqa: BLE001 - logging's own way: nobody who logs fails by it
            self.handleError(record)


class BytesColumn(ProgressColumn):
    """Bytes done of bytes in all, for phases that count them."""

    def render(self, task: Task) -> Text:
        """Part of rich."""
        return Text("" if task.total is None else f"{size(int(task.completed))} of {size(int(task.total))}")


def table_console() -> Console:
    """Where tables go: as wide as the terminal, and so wide elsewhere that nothing is cut."""
    console = Console()
    if not console.is_terminal:
        console.width = 1000
    return console


class StartDisplay:
    """Progress of models that load: a bar for each on a terminal, plain lines elsewhere; then a request to try."""

    def __init__(self, console: Console, url: str, *, names: bool = False) -> None:
        """`names`: requests have to name the model."""
        self.console = console
        self.url = url
        self.names = names
        self._announced = False
        self._progress: Progress | None = None
        self._bars: dict[str, tuple[str, TaskID]] = {}
        """Each model's phase, and the bar of that phase."""

    def of(self, name: str, model_type: ModelType) -> ModelDisplay:
        """The display of one model."""
        return ModelDisplay(self, name, model_type)

    def listening(self, more: str = "") -> None:
        """Say where the server listens, once; `more` follows in the same line."""
        if not self._announced:
            self._announced = True
            self.console.print(f"Listening on {self.url} (Ctrl-C stops).{more}", markup=False, soft_wrap=True)
        elif more:
            self.console.print(more.strip(), markup=False, soft_wrap=True)

    def show_bar(self, name: str, loading: Loading) -> None:
        """Move a model's bar."""
        if self._progress is None:
            self._progress = bars(self.console, (SpinnerColumn(),), (TimeElapsedColumn(),), (BytesColumn(),))
            self._progress.start()
        phase, bar = self._bars.get(name, ("", None))
        if bar is None or phase != loading.phase:
            # A new bar for each phase: one that has had a total keeps it, and one that was full stands still.
            if bar is not None:
                self._progress.remove_task(bar)
            bar = self._progress.add_task(f"{name}: {loading.phase}", total=None)
            self._bars[name] = loading.phase, bar
        self._progress.update(bar, total=loading.total or None, completed=loading.done)

    def hide_bar(self, name: str) -> None:
        """Take a model's bar away. Idempotent."""
        if self._progress is not None and name in self._bars:
            self._progress.remove_task(self._bars.pop(name)[1])
            if not self._bars:
                self.close()

    def close(self) -> None:
        """Take all bars away. Idempotent."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        self._bars.clear()


class ModelDisplay:
    """How one model's start goes, and what was loaded."""

    def __init__(self, display: StartDisplay, name: str, model_type: ModelType) -> None:
        self._display = display
        self._name = name
        self._model_type = model_type
        self._phase = ""
        self._reported = 0.0

    def loading(self, loading: Loading) -> None:
        """The start goes on."""
        if self._display.console.is_terminal:
            self._display.show_bar(self._name, loading)
        else:
            self._print_line(loading)

    def ready(self, facts: ModelFacts) -> None:
        """The model answers."""
        self.ended()
        console, url = self._display.console, self._display.url
        context = f", context {facts.max_model_len:,} tokens" if facts.max_model_len else ""
        weights = memory_size(facts.parameter_bytes)
        console.print(
            f"[bold green]Ready[/]: {escape(self._name)} ({facts.architecture}, {weights}{context})"
            f" on {escape(facts.device)}, {facts.rows} at a time",
            soft_wrap=True,
        )
        for note in facts.notes:
            console.print(f"Note: {note}", markup=False, soft_wrap=True)
        self._display.listening(" Try:")
        path, body = example(self._model_type, facts)
        if facts.transcribes:
            named = f" -F model={shlex.quote(self._name)}" if self._display.names else ""
            console.print(f"  curl {url}/v1/{path} -F file=@recording.mp3{named}", markup=False, soft_wrap=True)
            return
        if self._display.names:
            body = f'{{"model": {json.dumps(self._name)}, {body[1:]}'
        console.print(
            f"  curl {url}/v1/{path} -H 'Content-Type: application/json' -d '{body}'",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def ended(self) -> None:
        """The start has come to an end."""
        self._display.hide_bar(self._name)
        self._phase, self._reported = "", 0.0

    def _print_line(self, loading: Loading) -> None:
        share = loading.done / loading.total if loading.total else 0.0
        if loading.phase == self._phase and share < self._reported + PLAIN_STEP and share < 1:
            return
        if loading.phase == self._phase and share == self._reported:
            return
        self._phase, self._reported = loading.phase, share
        done = f" {size(loading.done)} of {size(loading.total)}" if loading.total else ""
        console = self._display.console
        console.print(f"{self._name}: {loading.phase}{done}", markup=False, highlight=False, soft_wrap=True)
