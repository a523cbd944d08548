"""Files of requests: what one is for, and one made of a table and a template."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
PLACE = re.compile(r"\{(\w[\w .-]*)\}")
"""Where a column's value stands in a template; other braces are what they are."""

MOST_CELL = 1 << 27


class BadFile(Exception):  # noqa: N818 - named for the fact
    """Raised when a file is not what is needed; the message is one line."""


class FirstLine(msgspec.Struct, frozen=True):
    """As much of a request as says what it is for."""

    url: str


def endpoint_of(file: Path) -> str:
    """What the requests of a file are for, by the first of them. Raises BadFile or OSError."""
    with file.open("rb") as lines:
        for line in lines:
            if line.strip():
                try:
                    return msgspec.json.decode(line, type=FirstLine).url
                except msgspec.DecodeError as error:
                    raise BadFile(f"{file}: its first line is no request: {error}") from None
    raise BadFile(f"{file} is empty.")


def filled(template: str, row: Mapping[str, str]) -> str:
    """A template with the values of a row in the places of its columns' names. Raises BadFile."""

    return PLACE.sub(lambda found: value_of(found[1], row), template)


def value_of(column: str, row: Mapping[str, str]) -> str:
    """What a row has in a column, whatever that is called. Raises BadFile."""
    if column not in row:
        raise BadFile(f"there is no column {column!r}; there are {', '.join(map(repr, row))}.")
    return row[column]


def rows_of(table: Path, delimiter: str) -> Iterator[dict[str, str]]:
    """The rows of a table by the names of its columns, which its first line has. Raises BadFile or OSError."""
    csv.field_size_limit(MOST_CELL)
    with table.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, delimiter=delimiter, restval="")
        try:
            for row in reader:
                if None in row:
                    raise BadFile(f"{table}: line {reader.line_num} has more values than there are columns.")
                yield row
        except (csv.Error, UnicodeDecodeError) as error:
            raise BadFile(f"{table}: line {reader.line_num} can't be read: {error}") from None


def chat_body(prompt: str, system: str, **options: Any) -> Callable[[Mapping[str, str]], dict[str, Any]]:
    """Makes chats of rows: templates of what the user and the system say, and other fields of the body."""

    def body(row: Mapping[str, str]) -> dict[str, Any]:
        said = [{"role": "system", "content": filled(system, row)}] if system else []
        return {**options, "messages": [*said, {"role": "user", "content": filled(prompt, row)}]}

    return body


def embeddings_body(prompt: str, **options: Any) -> Callable[[Mapping[str, str]], dict[str, Any]]:
    """Makes of rows what is to be embedded."""
    return lambda row: {**options, "input": filled(prompt, row)}


def write_requests(
    rows: Iterator[dict[str, str]],
    target: Path,
    endpoint: str,
    body: Callable[[Mapping[str, str]], dict[str, Any]],
    id_column: str | None,
) -> int:
    """Write a request for each row, called by a column or by its number; returns how many. Raises BadFile or OSError,
    and leaves nothing then."""
    beside = target.with_name(f"{target.name}.part")
    count = 0
    try:
        with beside.open("w", encoding="utf-8") as file:
            for count, row in enumerate(rows, 1):
                custom_id = str(count) if id_column is None else value_of(id_column, row)
                request = {"custom_id": custom_id, "method": "POST", "url": endpoint, "body": body(row)}
                file.write(json.dumps(request, ensure_ascii=False) + "\n")
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    return count
