"""Text through a markup, cut anywhere, and its pieces put together again."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from mlx_server.schemas.internal.generation import Tool, ToolUse
from mlx_server.workers.engine.output.output_format import OutputFormat, Speech
from mlx_server.workers.engine.output.thinking import ThinkMarks
from mlx_server.workers.engine.output.tool_calls.markup import Called, Markup, Piece, Thought, VisibleText

THINK = ThinkMarks("<think>", "</think>", (1,), (2,))

WEATHER = Tool(
    "get_weather",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
)
CLOCK = Tool("get_time")
TOOLS = (WEATHER, CLOCK)


@dataclass
class Read:
    """What came of a text. `calls` are names and arguments; `order` is the kinds of pieces, runs once."""

    said: str = ""
    thought: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    order: str = ""
    whole: int = 0
    complete: bool = False


def gathered(pieces: Iterable[Piece]) -> Read:
    """Pieces put together."""
    read = Read()
    for piece in pieces:
        match piece:
            case VisibleText(text):
                read.said += text
                kind = "s"
            case Thought(text):
                read.thought += text
                kind = "t"
            case Called(call, arguments, name):
                kind = "c"
                if name is not None:
                    assert call == len(read.calls)
                    read.calls.append((name, ""))
                    kind = "n"
                read.calls[call] = (read.calls[call][0], read.calls[call][1] + arguments)
        if kind == "n" or not read.order.endswith(kind):
            read.order += kind
    return read


def through(markup: Markup, pieces: Iterable[str], *, cut: bool = False) -> Read:
    """A text in pieces through a markup; `cut`: it ends because it may not be longer."""
    out: list[Piece] = []
    for piece in pieces:
        out += markup.feed(piece)
    out += markup.flush(cut=cut)
    read = gathered(out)
    read.whole, read.complete = markup.calls, markup.complete
    return read


def cuts(text: str, seed: int) -> list[str]:
    """A text cut at random places, and into single characters for seed 0."""
    rng = random.Random(seed)
    pieces, at = [], 0
    while at < len(text):
        size = 1 if seed == 0 else rng.choice((1, 2, 3, 5, 8, 40))
        pieces.append(text[at : at + size])
        at += size
    return pieces


def read(
    output_format: OutputFormat,
    text: str,
    *,
    tools: tuple[Tool, ...] = TOOLS,
    use: ToolUse | None = None,
    starts_thinking: bool = False,
    cut: bool = False,
    seeds: int = 12,
) -> Read:
    """What comes of a text; the same wherever it is cut."""

    def once(pieces: list[str]) -> Read:
        speech = Speech(tools, use or ToolUse(), hermes=False)
        return through(output_format.markup(speech, starts_thinking=starts_thinking), pieces, cut=cut)

    whole = once([text])
    for seed in range(seeds):
        assert once(cuts(text, seed)) == whole, seed
    return whole
