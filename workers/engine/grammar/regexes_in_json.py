"""Regular expressions of texts that stand between the quotes of a JSON string, where some characters are escaped."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import zip_longest

SPECIAL = ('"', "\\", *map(chr, range(0x20)))
"""What JSON escapes."""

NOT_SPECIAL = r'["\\\x00-\x1f]'

ATOM = r"\[\^?(?:\\.|[^][\\])+\]|\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\[^xupPUbBAzZ0-9]|[^][\\(){}*+?|]"
GROUP = r"\((?:\?:)?(?:\\.|[^\\()])*\)"
ITEM = re.compile(rf"(?P<atom>{ATOM}|{GROUP})(?P<often>[*+?]|\{{\d+(?:,\d*)?\}})?(?![*+?{{])", re.DOTALL)
PIECE = re.compile(rf"(?P<atom>{ATOM})|\(\?:|[()|*+?]|\{{\d+(?:,\d*)?\}}", re.DOTALL)
WHOLE_GROUP = re.compile(r"\((?:\?:)?((?:\\.|[^\\()|])*)\)", re.DOTALL)
OPEN = re.compile(r"\[\^|\\[SDW]|\.|\(")
TRIED = tuple(map(chr, range(0x20, 0x250)))


class UnsayableError(Exception):
    """Raised for a grammar that can't be said of escaped text."""


@dataclass(frozen=True, slots=True)
class Item:
    """One character of an expression, or a group without what JSON escapes, and how often it may stand there."""

    atom: str
    often: str
    specials: tuple[str, ...]
    """Those that it matches of what JSON escapes."""

    @property
    def plain(self) -> str:
        """A class of the others, or nothing."""
        if OPEN.match(self.atom) is None and not any(matches(self.atom, one) for one in TRIED if one not in SPECIAL):
            return ""
        inside = r"[^\n]" if self.atom == "." else self.atom
        return f"[{inside}--{NOT_SPECIAL}]"

    @property
    def escapes(self) -> str:
        """An expression of the escapes."""
        return "|".join(re.escape(json.dumps(one)[1:-1]) for one in self.specials)

    @property
    def anywhere(self) -> str:
        """An expression of one character or escape."""
        return f"(?:{'|'.join(filter(None, (self.plain, self.escapes)))})"


def matches(atom: str, character: str, flags: str = "") -> bool:
    """Whether one character matches."""
    return re.fullmatch(atom, character, re.ASCII | (re.DOTALL if "s" in flags else re.NOFLAG)) is not None


def specials_of(atom: str, flags: str) -> tuple[str, ...]:
    """Those of what JSON escapes. Raises UnsayableError for what only Rust's expressions know."""
    try:
        return tuple(one for one in SPECIAL if matches(atom, one, flags))
    except re.error:
        raise UnsayableError from None


def within_a_token(expression: str, flags: str) -> str | None:
    """An expression of the escaped text that the lexer finds as one token; None if it ends in a run of characters, some
    of which are escaped. Raises UnsayableError."""
    if set(flags) - {"i", "s"}:
        raise UnsayableError
    if not any(specials_of(atom, flags) for atom in atoms_of(expression)):
        return expression
    items = items_of(expression, flags)
    if items[-1].specials and items[-1].often:
        return None
    return joined(items, flags)


def run_of(expression: str, flags: str) -> str:
    """Lark's words for an expression that ends in a run: what stands before it, characters, and escapes. Raises
    UnsayableError."""
    *before, last = items_of(expression, flags)
    head = ""
    if before:
        if all(item.often for item in before):  # it may be nothing, which is no token
            raise UnsayableError
        head = f"/{joined(before, flags)}/{flags} "
    more, kept = "+" if last.often in ("*", "+") else "", flags.replace("s", "")
    parts = [f"/{last.plain}{more}/{kept}"] if last.plain else []
    return f"({head}({' | '.join([*parts, f'/{last.escapes}/'])}){last.often})"


def joined(items: list[Item], flags: str) -> str:
    """Items one after the other, in one token. Raises UnsayableError where it could not be seen how one ends."""
    if "i" in flags and any(item.specials for item in items):  # an escape's letter is not any letter
        raise UnsayableError
    for item, after in zip_longest(items, items[1:]):
        if item.specials and item.often and (after is None or after.often or not ends(item, after)):
            raise UnsayableError
    return "".join((item.anywhere if item.specials else item.atom) + item.often for item in items)


def ends(item: Item, after: Item) -> bool:
    """Whether what follows can't be a part of a run of `item`."""
    if OPEN.match(after.atom):
        return False
    return not any(matches(after.atom, one) and matches(item.atom, one) for one in (*SPECIAL, *TRIED))


def atoms_of(expression: str) -> list[str]:
    """All single characters and classes of an expression. Raises UnsayableError for what is not known here."""
    found, at = [], 0
    while at < len(expression):
        piece = PIECE.match(expression, at)
        if piece is None:
            raise UnsayableError
        at = piece.end()
        if piece["atom"]:
            found.append(piece["atom"])
    return found


def items_of(expression: str, flags: str) -> list[Item]:
    """An expression item by item. Raises UnsayableError for alternatives, and groups of what JSON escapes."""
    if group := WHOLE_GROUP.fullmatch(expression):
        expression = group[1]
    found, at = [], 0
    while at < len(expression):
        item = ITEM.match(expression, at)
        if item is None:
            raise UnsayableError
        at, atom = item.end(), item["atom"]
        grouped = atom.startswith("(")
        if grouped and any(specials_of(one, flags) for one in atoms_of(atom)):
            raise UnsayableError
        found.append(Item(atom, item["often"] or "", () if grouped else specials_of(atom, flags)))
    return found
