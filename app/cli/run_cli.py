"""`mlx-server run`: a chat with a model in the terminal."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from io import TextIOWrapper
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mlx_server.app.cli.ps_cli import DEFAULT_URL, ApiKey, Url, fail

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType
    from rich.segment import Segment

    from mlx_server.app.cli.console import StartDisplay
    from mlx_server.app.connect.chat import Chat, Piece
    from mlx_server.schemas.live import LoadProgress

HELP = """/image FILE   show a picture with the next message
/system TEXT  say who the model is (nothing: no more)
/save FILE    write the conversation as Markdown
/clear        forget the conversation
/bye          end (so does Ctrl-D); Ctrl-C ends an answer"""
REDRAWN_PER_SECOND = 8


def run(
    model: Annotated[str, typer.Argument(help="A model's name on a running server, its folder, .gguf file or hub id.")],
    prompt: Annotated[list[str] | None, typer.Argument(help="What to say; without it a conversation begins.")] = None,
    system: Annotated[str, typer.Option(help="Who the model is.")] = "",
    image: Annotated[list[Path] | None, typer.Option(help="A picture to show first; repeat it for several.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The longest answer, in tokens.", min=1)] = None,
    temperature: Annotated[float | None, typer.Option(help="0 for the likeliest words.", min=0, max=2)] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Chat with a model in the terminal. A server that serves it is used; else one is started, and ended with the chat.

    Example: cat report.txt | mlx-server run mlx-community/Qwen3-0.6B-4bit "Summarise this."
    """
    from mlx_server.app.cli.console import StartDisplay
    from mlx_server.app.connect.chat import Chat
    from mlx_server.app.connect.own_server import names_of, own_server, served
    from mlx_server.app.connect.running_server import ServerProblem, root_of
    from mlx_server.app.terminal.bars import bar_console

    options = {"max_tokens": max_tokens, "temperature": temperature}
    words = " ".join(prompt or ())
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    piped = "" if sys.stdin.isatty() else sys.stdin.read()
    if "\0" in piped:
        fail("what is piped is no text: it has NUL bytes.")
    try:
        with ExitStack() as stack:
            root = root_of(url)
            name = served(root, api_key, 2.0, model)
            if name is None:
                with closing(StartDisplay(bar_console(), url)) as display:
                    root = stack.enter_context(own_server(model, [], told_by(display, names_of(model)[-1])))
                name = model
            elif name != model and not os.path.exists(os.path.expanduser(model)):
                Console(stderr=True).print(f"{name} answers, at {root}.", style="dim", markup=False, soft_wrap=True)
            chat = Chat(root, name, api_key, {key: value for key, value in options.items() if value is not None})
            chat.instruct(system)
            for picture in image or ():
                chat.attach(picture)
            if words or piped:
                answer(chat, "\n\n".join(part for part in (words, piped) if part))
            else:
                converse(chat)
    except (ServerProblem, OSError) as error:
        fail(str(error))


def told_by(display: StartDisplay, name: str) -> Callable[[LoadProgress], None]:
    """Shows how far the start of a model is, from now on."""
    from mlx_server.schemas.internal.messages import Loading

    display.show_bar(name, Loading("starting"))
    return lambda now: display.show_bar(name, Loading(now.phase, now.done, now.total))


def converse(chat: Chat) -> None:
    """Turn by turn, until the person ends it."""
    from mlx_server.app.connect.running_server import ServerProblem

    console = Console()
    console.print("Write a message, or /help.", style="dim", highlight=False)
    for line in lines(console):
        word, _, rest = line.partition(" ")
        try:
            if not word.startswith("/"):
                answer(chat, line)
            elif word in ("/bye", "/exit", "/quit"):
                return
            else:
                console.print(command(chat, word, rest.strip()), style="dim", markup=False, highlight=False)
        except (ServerProblem, OSError) as error:
            console.print(str(error), style="red", markup=False, highlight=False)


def command(chat: Chat, word: str, rest: str) -> str:
    """Carry out what begins with a slash; what there is to say about it. Raises OSError."""
    match word:
        case "/image" if rest:
            chat.attach(Path(rest).expanduser())
            return "It is shown with the next message."
        case "/system":
            chat.instruct(rest)
            return "The model is told." if rest else "The model is told nothing."
        case "/save" if rest:
            chat.save(Path(rest).expanduser())
            return f"Written to {rest}."
        case "/clear":
            chat.clear()
            return "All is forgotten."
        case _:
            return HELP


def lines(console: Console) -> Iterator[str]:
    """What the person writes, line by line."""
    if sys.stdin.isatty():
        import readline  # noqa: F401 - lines can be edited, and come again, where it is imported
    while True:
        try:
            line = console.input("[bold]> [/bold]").strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            console.print("\n/bye or Ctrl-D ends.", style="dim", highlight=False)
            continue
        if line:
            yield line


def answer(chat: Chat, text: str) -> None:
    """Say something, and print what comes back as it comes: as Markdown to a person, as it is to a program. Raises
    ServerProblem."""
    from rich.live import Live
    from rich.markdown import Markdown
    from rich.text import Text

    if not sys.stdout.isatty():
        for piece in chat.say(text):
            if not piece.thought:
                typer.echo(piece.text, nl=False)
        typer.echo()
        return
    began = perf_counter()
    console = Console()
    said = thoughts = ""
    pieces = chat.say(text)
    try:
        with Live(console=console, refresh_per_second=REDRAWN_PER_SECOND, transient=True) as live:
            for piece in pieces:
                said, thoughts = added(piece, said, thoughts)
                live.update(End(Markdown(said) if said else Text(thoughts, style="dim italic")))
    except KeyboardInterrupt:
        pieces.close()  # type: ignore[attr-defined]
    finally:
        if said:
            console.print(Markdown(said))
    console.print(footer(chat, perf_counter() - began), style="dim", highlight=False)


class End:
    """The last lines of what is drawn, as many as the terminal shows: what has left it above can't be drawn again.
    They leave room for what the terminal says of Ctrl-C."""

    def __init__(self, whole: RenderableType) -> None:
        self._whole = whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        from rich.segment import Segment

        from mlx_server.app.terminal.bars import narrower

        lines = console.render_lines(self._whole, narrower(options), pad=False)
        for line in lines[-max(1, console.height - 2) :]:
            yield from (*line, Segment.line())


def added(piece: Piece, said: str, thoughts: str) -> tuple[str, str]:
    """The answer and the thoughts before it, with a piece more, which is text and no command to the terminal."""
    text = "".join(sign for sign in piece.text if sign in "\n\t" or unicodedata.category(sign) != "Cc")
    return (said, thoughts + text) if piece.thought else (said + text, thoughts)


def footer(chat: Chat, seconds: float) -> str:
    """What an answer cost."""
    usage = chat.usage
    if not usage.completion:
        return f"stopped after {seconds:.1f} s"
    rate = usage.completion / max(seconds, 1e-6)
    return f"{usage.completion} tokens, {rate:.0f} per second; {usage.cached} of {usage.prompt} were known"
