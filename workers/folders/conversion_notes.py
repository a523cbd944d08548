"""Notes on what was noticed when a folder was converted from another format, told whenever it is loaded."""

from __future__ import annotations

import json
from pathlib import Path

NAME = "conversion_notes.json"
UNREAD = "the GGUF file says what nothing here reads, so answers may be worse: "
"""How the note on the keys of a GGUF file begins that nobody has read."""


def write_notes(folder: Path, notes: list[str]) -> None:
    """Keep the notes in the folder."""
    (folder / NAME).write_text(json.dumps(notes, indent=2), encoding="utf-8")


def read_notes(folder: Path) -> list[str]:
    """The folder's notes; none if nothing was noticed or it was not converted here."""
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [note for note in found if isinstance(note, str)] if isinstance(found, list) else []


def unread_metadata(folder: Path) -> list[str]:
    """The keys of the GGUF file that a folder was made of which nobody has read."""
    return [key for note in read_notes(folder) if note.startswith(UNREAD) for key in note[len(UNREAD) :].split(", ")]
