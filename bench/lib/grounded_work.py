"""Requests of work that repeats what it is given, of schemas that leave few choices, and of prose."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from lib.processes import BENCH
from lib.prompts import prompt_texts

sys.path.insert(0, str(BENCH.parent / "tests"))

from support.inputs.schemas import schemas

MOST_TOKENS = 160
PIECE = 1100
"""Characters of a file that is to be written again."""

FACTS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "name_of_the_ship": {"type": "string", "maxLength": 40},
        "name_of_the_captain": {"type": "string", "maxLength": 40},
        "port_of_departure": {"type": "string", "maxLength": 40},
        "number_of_sailors": {"type": "integer", "minimum": 0, "maximum": 9999},
        "cargo": {"type": "array", "items": {"type": "string", "maxLength": 20}, "minItems": 2, "maxItems": 3},
    },
    "required": ["name_of_the_ship", "name_of_the_captain", "port_of_departure", "number_of_sailors", "cargo"],
}
GROUNDED = ("rewrite", "facts", "quote", "second edit")
KINDS = (*GROUNDED, "schemas", "prose")
Body = dict[str, Any]


def files() -> Iterator[str]:
    """Pieces of this repository's code, always the same."""
    for path in sorted((BENCH.parent / "workers" / "engine").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        starts = [at for at in range(len(text)) if text.startswith("\ndef ", at) or text.startswith("\nclass ", at)]
        yield from (text[start:end][:PIECE].strip() for start, end in pairwise(starts) if end - start > PIECE // 2)


def chat(*said: str, **more: Any) -> Body:
    """A conversation, the client's turn first."""
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(said)]
    return {"messages": messages, "temperature": 0, "max_tokens": MOST_TOKENS, **more}


def requests(kind: str, first: int, count: int) -> list[Body]:
    """The requests of one kind from the one with number `first` on."""
    pieces = list(files())
    return [request(kind, pieces[number % len(pieces)], number) for number in range(first, first + count)]


def request(kind: str, piece: str, number: int) -> Body:
    """One request."""
    match kind:
        case "rewrite":
            return chat(f"Change the name `self` to `this_{number}` and write the whole file again:\n\n{piece}")
        case "facts":
            ship, captain, port = (
                f"Sea Rose {number}",
                f"Ada Smith the {number}th",
                ("Bergen", "Lima", "Kobe")[number % 3],
            )
            text = (
                f"The {ship} left {port} with {20 + number} sailors, tea, copper and wool; {captain} was its captain."
            )
            schema = {"name": "facts", "strict": True, "schema": FACTS}
            how = {"type": "json_schema", "json_schema": schema}
            return chat(f"Extract the facts of this text as JSON: {text}", response_format=how)
        case "quote":
            return chat(f"{piece}\n\nQuote the first ten lines of this text word for word, then say what they do.")
        case "second edit":
            return chat(
                f"Write file {number}.", f"```python\n{piece}\n```", "Add a comment to its first line, and show all."
            )
        case "schemas":
            named = sorted(schemas().items())
            schema = {"name": "answer", "schema": named[number % len(named)][1]}
            how = {"type": "json_schema", "json_schema": schema}
            return chat("Describe a person, a shape and a day in a few words.", response_format=how)
        case _:
            return chat(prompt_texts(1, number)[0])
