"""`mlx-server batch`: files of requests, made, run and looked after on a running server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console

from mlx_server.app.cli.commands import App
from mlx_server.app.cli.ps_cli import DEFAULT_URL, ApiKey, Url, fail

if TYPE_CHECKING:
    from mlx_server.app.connect.batches import BatchClient, BatchState

LOOK_S = 0.5
SELDOM_S = 5.0
SELDOMER = 1.5
"""It is looked at a batch after LOOK_S, and each time after so many times as long, up to SELDOM_S: a server may limit
requests."""

MOST_REFUSALS = 30
"""Refusals and failures in a row after which no more is hoped for."""

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

app = App(help="Run files of requests when nobody else needs the server.")
BatchId = Annotated[str, typer.Argument(help="The batch's id.", metavar="ID")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Output = Annotated[Path | None, typer.Option(help="Where results go. Default: beside the input, or to the terminal.")]
T = TypeVar("T")
Table = Annotated[Path, typer.Argument(help="A table whose first line names its columns.", exists=True, dir_okay=False)]


class Kind(StrEnum):
    """What becomes of the rows of a table."""

    CHAT = "chat"
    EMBEDDINGS = "embeddings"


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="A request in each line.", exists=True, dir_okay=False)],
    output: Output = None,
    window: Annotated[str, typer.Option(help="Hours or days that it may take: 24h, 7d.")] = "24h",
    detach: Annotated[bool, typer.Option("--detach", help="Print the batch's id, and do not wait.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Run a file of requests, and save the results. After Ctrl-C the batch goes on; `batch wait` comes back to it.

    Example: mlx-server batch run requests.jsonl --output results.jsonl
    """
    from mlx_server.app.connect.batch_files import endpoint_of

    with asking(url, api_key) as client:
        batch = client.submit(file, endpoint_of(file), window)
        if detach:
            typer.echo(batch.id)
        else:
            follow(client, batch, output or file.with_suffix(".results.jsonl"))


@app.command()
def wait(id_: BatchId, output: Output = None, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Watch a batch to its end, and save the results."""
    with asking(url, api_key) as client:
        follow(client, patiently(partial(client.get, id_), met=False), output or Path(f"{id_}.results.jsonl"))


@app.command("list")
def list_batches(
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=100)] = 20,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """List the newest batches."""
    import msgspec

    from mlx_server.app.cli.console import table_console
    from mlx_server.app.terminal.batch_display import table_of

    with asking(url, api_key) as client:
        found = client.newest(limit)
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(found), indent=2))
    else:
        console = table_console()
        console.print(table_of(found, console) if found else "There are no batches.")


@app.command()
def status(id_: BatchId, as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Tell how far a batch is."""
    with asking(url, api_key) as client:
        tell(client.get(id_), as_json=as_json)


@app.command()
def cancel(id_: BatchId, as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """End a batch; what is done stays."""
    with asking(url, api_key) as client:
        tell(client.cancel(id_), as_json=as_json)


@app.command()
def output(
    id_: BatchId,
    errors: Annotated[bool, typer.Option("--errors", help="The lines that failed.")] = False,
    output: Output = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Print the results of a batch that has ended, or save them."""
    with asking(url, api_key) as client:
        batch = client.get(id_)
        file_id = batch.error_file_id if errors else batch.output_file_id
        if file_id is None:
            fail(f"{id_} is {batch.status} and has no such results.")
        if output is not None:
            save(client, file_id, output)
            return
        stdout = typer.get_binary_stream("stdout")
        for piece in client.content(file_id):
            stdout.write(piece)


@app.command()
def make(
    table: Table,
    prompt: Annotated[str, typer.Option(help="What is asked of each row: {column} stands for its value.")],
    output: Annotated[Path, typer.Option(help="Where the requests go.")],
    system: Annotated[str, typer.Option(help="Who the model is, with columns as well.")] = "",
    model: Annotated[str, typer.Option(help="The model's name on the server.")] = "default",
    kind: Annotated[Kind, typer.Option(help="What becomes of each row.")] = Kind.CHAT,
    max_tokens: Annotated[int | None, typer.Option(help="The longest answer, in tokens.", min=1)] = None,
    temperature: Annotated[float | None, typer.Option(help="0 for the likeliest words.", min=0, max=2)] = None,
    id_column: Annotated[str | None, typer.Option(help="The column that says what a row is called.")] = None,
    delimiter: Annotated[str, typer.Option(help="What stands between two values.")] = ",",
) -> None:
    """Make a file of requests of a CSV table and a template.

    Example: mlx-server batch make rows.csv --prompt "Is this kind or rude? {text}" --output requests.jsonl
    """
    from mlx_server.app.connect import batch_files as files

    if len(delimiter) != 1:
        raise typer.BadParameter("one character is needed.", param_hint="--delimiter")
    limits = {"max_tokens": max_tokens, "temperature": temperature}
    options = {"model": model, **{name: value for name, value in limits.items() if value is not None}}
    if kind is Kind.CHAT:
        endpoint, body = files.CHAT, files.chat_body(prompt, system, **options)
    else:
        if system or len(options) > 1:
            raise typer.BadParameter("nothing is written: leave out --system, --max-tokens and --temperature.")
        endpoint, body = files.EMBEDDINGS, files.embeddings_body(prompt, **options)
    try:
        count = files.write_requests(files.rows_of(table, delimiter), output, endpoint, body, id_column)
    except (files.BadFile, OSError) as error:
        fail(str(error))
    Console(soft_wrap=True).print(f"{output} has {count} requests.", markup=False, highlight=False)


@contextmanager
def asking(url: str, api_key: str | None) -> Iterator[BatchClient]:
    """A client of a server; what goes wrong ends the command with a line that says so."""
    from mlx_server.app.connect.batch_files import BadFile
    from mlx_server.app.connect.batches import BatchClient
    from mlx_server.app.connect.running_server import ServerProblem, root_of

    try:
        client = BatchClient(root_of(url), api_key)
        try:
            yield client
        finally:
            client.close()
    except (ServerProblem, BadFile, OSError) as error:
        fail(str(error))


def follow(client: BatchClient, batch: BatchState, target: Path) -> None:
    """Show a batch until it has ended, save its results, and end with a code that says how it went."""
    from mlx_server.app.connect.running_server import ServerProblem
    from mlx_server.app.terminal.bars import bar_console
    from mlx_server.app.terminal.batch_display import BatchDisplay, line_of

    console = bar_console()
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    try:
        with BatchDisplay(console) as display:
            for now in states(client, batch):
                display.show(now)
                batch = now
        lines = [line_of(batch)]
        for wrong in batch.errors.data if batch.errors else ():
            lines.append(wrong.message if wrong.line is None else f"line {wrong.line}: {wrong.message}")
        lines += save_results(client, batch, target)
    except KeyboardInterrupt:
        say(f"The batch goes on without you: mlx-server batch wait {batch.id}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except (ServerProblem, OSError):
        say(f"To come back to the batch: mlx-server batch wait {batch.id}")
        raise
    for line in lines:
        say(line)
    if not batch.well:
        raise typer.Exit(EXIT_FAILED)


def states(client: BatchClient, batch: BatchState) -> Iterator[BatchState]:
    """A batch as it is now, again and again until it has ended."""
    yield batch
    for wait_s in pauses():
        if batch.ended:
            return
        time.sleep(wait_s)
        batch = patiently(partial(client.get, batch.id))
        yield batch


def save_results(client: BatchClient, batch: BatchState, target: Path) -> list[str]:
    """Save what came of a batch, and beside it what failed; returns lines that tell of it. Raises OSError."""
    files = ((batch.output_file_id, target), (batch.error_file_id, target.with_suffix(".errors.jsonl")))
    saved = [(file_id, path) for file_id, path in files if file_id is not None]
    for file_id, path in saved:
        patiently(partial(save, client, file_id, path))
    return [f"written: {path}" for _, path in saved]


def pauses() -> Iterator[float]:
    """Seconds between two looks at a batch, without end."""
    wait_s = LOOK_S
    while True:
        yield wait_s
        wait_s = min(SELDOM_S, wait_s * SELDOMER)


def patiently(ask: Callable[[], T], *, met: bool = True) -> T:
    """What a server is asked for, once it has time for that, and, one that was `met` before, once it is there: batches
    go on when it does. Raises ServerProblem."""
    from mlx_server.app.connect.batches import NotNow
    from mlx_server.app.connect.running_server import NoServer

    refusals, waits = 0, pauses()
    while True:
        wait_s = next(waits)
        try:
            return ask()
        except NoServer:
            if not met:
                raise
            refusals = 0
        except NotNow as error:
            refusals += 1
            if refusals == MOST_REFUSALS:
                raise
            wait_s = max(wait_s, error.after_s)
        time.sleep(wait_s)


def save(client: BatchClient, file_id: str, target: Path) -> None:
    """Write a file's content, in the place of what was there once all of it has come. Raises OSError."""
    beside = target.with_name(f"{target.name}.part")
    try:
        with beside.open("wb") as file:
            for piece in client.content(file_id):
                file.write(piece)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def tell(batch: BatchState, *, as_json: bool) -> None:
    """Print a batch."""
    import msgspec

    from mlx_server.app.terminal.batch_display import line_of

    typer.echo(json.dumps(msgspec.to_builtins(batch), indent=2) if as_json else line_of(batch))
