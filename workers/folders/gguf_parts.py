"""The files of a GGUF model: one, or several that llama.cpp's gguf-split has numbered."""

from __future__ import annotations

import re
from pathlib import Path

NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf")
SHOWN = 3
"""Of so many missing parts the names are told."""


class MissingPartsError(Exception):
    """Raised when some of a model's files are not there; the message is one line and names them."""

    def __init__(self, missing: list[str]) -> None:
        names = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else "")
        super().__init__(f"these parts of the model are missing beside it: {names}")


def parts_of(path: Path) -> list[Path]:
    """All files of the model that this one belongs to, in order. Raises MissingPartsError."""
    parts = parts_named_by(path)
    if len(parts) > 1 and (missing := [part.name for part in parts if not part.is_file()]):
        raise MissingPartsError(missing)
    return parts


def parts_named_by(path: Path) -> list[Path]:
    """The same, whether or not they are there."""
    match = NUMBERED.fullmatch(path.name)
    if match is None or not 1 <= int(match["number"]) <= int(match["count"]):
        return [path]
    numbers = range(1, int(match["count"]) + 1)
    return [path.with_name(f"{match['stem']}-{number:05}-of-{match['count']}.gguf") for number in numbers]


def is_later_part(path: Path) -> bool:
    """Whether it is not a model's first file: the others hold no metadata."""
    match = NUMBERED.fullmatch(path.name)
    return match is not None and 1 < int(match["number"]) <= int(match["count"])
