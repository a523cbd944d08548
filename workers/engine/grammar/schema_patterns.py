"""Regular expressions of JSON schemas (ECMA-262's) in the dialect of Rust's `regex`, which llguidance has.

That has no look-around. What stands at a pattern's beginning is often a condition of its own, which can be said as
another pattern that must hold too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MOST_LOOK_AHEADS = 32
MOST_DEPTH = 8
"""Groups with look-ahead, and in look-ahead, that stand in each other: each is looked through once more."""

ANY = r"[\s\S]"

CLASS = r"(?:\[(?:\\.|[^\]\\])+\]|\\[dws]|\\[^\w\s]|[^\\\[\](){}|*+?.^$])"
"""One character: a class, or a character that stands for itself."""

ALL_OF_CLASS = re.compile(rf"\^?({CLASS})([*+])\$")
LITERAL = re.compile(rf"\^?((?:{CLASS})+)(\$?)")
ANYWHERE = re.compile(rf"(?:\.\*|\[\\s\\S\]\*)\(?({CLASS}{{1,2}})\)?(?:\.\*)?\$?")
LOOK_AHEAD = re.compile(r"\(\?([=!])")
COUNT = re.compile(r"\{\d+(?:,\d*)?\}")
IN_BRACES = re.compile(r"\\[pPux](\{[^{}]*\})")

EQUALS = {
    # zod's duration
    r"^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?)$": (
        r"^P(?:\d+W|(?:\d+Y(?:\d+M)?(?:\d+D)?|\d+M(?:\d+D)?|\d+D)(?:T{0})?|T{0})$".format(
            r"(?:\d+H(?:\d+M)?(?:\d+(?:[.,]\d+)?S)?|\d+M(?:\d+(?:[.,]\d+)?S)?|\d+(?:[.,]\d+)?S)"
        )
    ),
}
"""Patterns that widely used libraries write, with the same in other words."""

DECIMAL = re.compile(
    r"\[\+-\]\?0\*\(\?:\\d\{0,(\d\d?)\}\|\(\?=\[\\d\.\]\{1,(\d\d?)\}0\*\$\)\\d\{0,\1\}\\\.\\d\{0,(\d\d?)\}0\*\)\$"
)
"""What pydantic writes for a decimal of so many digits and so many places."""


class NoEquivalentError(Exception):
    """Raised for a pattern that has look-around inside, or refers back to what it has found."""


def conditions(pattern: str, depth: int = MOST_DEPTH) -> list[str]:
    """Patterns without look-around that hold together exactly where this one does. Raises NoEquivalentError."""
    if pattern in EQUALS:
        return [EQUALS[pattern]]
    if depth == MOST_DEPTH and len(LOOK_AHEAD.findall(pattern)) > MOST_LOOK_AHEADS:
        raise NoEquivalentError(f"more than {MOST_LOOK_AHEADS} look-aheads")
    if depth == 0:
        raise NoEquivalentError(f"look-ahead more than {MOST_DEPTH} deep")
    found: list[str] = []
    rest = pattern
    while (ahead := LOOK_AHEAD.match(rest, 1)) and rest.startswith("^"):
        end = closing(rest, 1)
        inner = rest[ahead.end() : end]
        found += positive(inner, depth - 1) if ahead[1] == "=" else negative(inner, depth - 1)
        rest = "^" + rest[end + 1 :]
    if found and top_level_bar(rest):
        raise NoEquivalentError("look-around in one of several alternatives")
    rest = without_digits_ahead(rest)
    if re.search(r"(?<!\\)(?:\\\\)*\(\?<?[=!]", rest):
        raise NoEquivalentError("look-around")
    if re.search(r"(?<!\\)(?:\\\\)*\\(?:[1-9]|k<)", rest):
        raise NoEquivalentError("a reference back to a group")
    return [in_rust(part) for part in (*found, rest)]


def without_digits_ahead(pattern: str) -> str:
    """Pydantic's decimals without their look-ahead, where each choice of digits can be written out."""
    written = DECIMAL.search(pattern)
    if written is None:
        return pattern
    whole, total, places = int(written[1]), int(written[2]) - 1, int(written[3])
    if total > 40 or whole > 40 or places > 40:
        return pattern
    # So many digits before the point leave so many behind it; zeros at the end don't count.
    parts = [rf"\d{{{n}}}\.\d{{0,{min(places, total - n)}}}0*" for n in range(min(whole, total) + 1)]
    return pattern[: written.start()] + rf"[+-]?0*(?:\d{{0,{whole}}}|{'|'.join(parts)})$"


def positive(inner: str, depth: int) -> list[str]:
    """What must follow at the beginning."""
    return conditions("^" + inner if not top_level_bar(inner) else f"^(?:{inner})", depth)


def negative(inner: str, depth: int) -> list[str]:
    """What must not follow at the beginning, in words that say what may. Raises NoEquivalentError."""
    if depth == 0:
        raise NoEquivalentError(f"look-ahead more than {MOST_DEPTH} deep")
    if top_level_bar(inner):
        return [part for choice in choices(inner) for part in negative(choice, depth - 1)]
    if match := ALL_OF_CLASS.fullmatch(inner):
        return [other(match[1]) if match[2] == "*" else f"^$|{other(match[1])}"]
    if match := ANYWHERE.fullmatch(inner):
        return [nowhere(re.findall(CLASS, match[1]))]
    if inner.startswith("(?:") and closing(inner, 0) == len(inner) - 1:
        return negative(inner[3:-1], depth - 1)
    if inner.startswith("(?:") and closing(inner, 0) == len(inner) - 2 and inner.endswith("$"):
        return [part for choice in choices(inner[3:-2]) for part in negative(choice + "$", depth - 1)]
    if match := LITERAL.fullmatch(inner):
        return [f"^{unlike(re.findall(CLASS, match[1]), bool(match[2]))}"]
    raise NoEquivalentError("look-around")


def other(one: str) -> str:
    """Any character that this class has not."""
    if one.startswith("[^"):
        return "[" + one[2:]
    if one.startswith("["):
        return "[^" + one[1:]
    if re.fullmatch(r"\\[dws]", one):
        return one.upper()
    return f"[^{one}]"


def unlike(atoms: list[str], whole: bool) -> str:
    """Texts that don't begin with these characters; that are not just these if `whole`."""
    *before, last = atoms
    heads = "".join(f"(?:$|{other(atom)}|{atom}" for atom in before)
    return f"{heads}(?:$|{other(last)}" + (f"|{last}{ANY})" if whole else ")") + ")" * len(before)


def nowhere(atoms: list[str]) -> str:
    """Texts that have neither one character nor two in a row anywhere. Raises NoEquivalentError."""
    first = other(atoms[0])
    if len(atoms) == 1:
        return f"^{first}*$"
    if atoms[0] == atoms[1]:
        return f"^(?:{first}|{atoms[0]}{first})*{atoms[0]}?$"
    if any(len(atom.lstrip("\\")) != 1 or re.fullmatch(r"\\[dws]", atom) for atom in atoms):
        raise NoEquivalentError("look-around")
    return f"^(?:{first}|{atoms[0]}+[^{atoms[0]}{atoms[1]}])*{atoms[0]}*$"


def closing(pattern: str, opening: int) -> int:
    """Where the group that opens there ends. Raises NoEquivalentError if it does not."""
    depth = 0
    for at, character in plain(pattern):
        if at >= opening and character in "()":
            depth += 1 if character == "(" else -1
            if depth == 0:
                return at
    raise NoEquivalentError("a group that does not end")


def top_level_bar(pattern: str) -> bool:
    """Whether a pattern is alternatives."""
    return len(choices(pattern)) > 1


def choices(pattern: str) -> list[str]:
    """The alternatives of a pattern."""
    depth, begin, found = 0, 0, []
    for at, character in plain(pattern):
        depth += (character == "(") - (character == ")")
        if character == "|" and depth == 0:
            found.append(pattern[begin:at])
            begin = at + 1
    return [*found, pattern[begin:]]


def plain(pattern: str) -> Iterator[tuple[int, str]]:
    """A pattern's characters with their places, without what is escaped or in a class."""
    in_class, at = False, 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            at += 1
        elif in_class:
            in_class = character != "]"
        else:
            in_class = character == "["
            yield at, character
        at += 1


KNOWN_ESCAPES = "dDwWsSbBpPnrtfvxuk0123456789AZz"
META = "\\.+*?()|[]{}^$-&~#/"


def in_rust(pattern: str) -> str:
    """The same in Rust's dialect: what ECMA-262 takes for a character itself, Rust may not."""
    out, in_class, at = [], False, 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            braces = IN_BRACES.match(pattern, at)
            piece = braces[0] if braces else escaped(pattern[at : at + 2], in_class)
            at += len(braces[1]) + 1 if braces else 1
        elif in_class:
            in_class = character != "]"
            piece = "\\" + character if character in "[&~" else character
        elif character == "[":
            in_class, piece = True, "["
            if pattern.startswith("[^]", at):
                in_class, piece, at = False, ANY, at + 2
        elif character == "{" and not COUNT.match(pattern, at):
            piece = r"\{"
        else:
            piece = character
        out.append(piece)
        at += 1
    return "".join(out)


def escaped(pair: str, in_class: bool) -> str:
    """An escape: a backslash and what follows it, if anything does."""
    character = pair[1:]
    if character == "Z":
        return "$"
    if in_class and character == "b":
        return r"\x08"
    if character in KNOWN_ESCAPES or character in META or not character.isascii():
        return "\\" + character
    return character


YEAR = r"(?:[1-9]\d{3}|0[1-9]\d\d|00[1-9]\d|000[1-9])"
LEAP_YEAR = r"(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
DATE = (
    rf"(?:{LEAP_YEAR}-02-29|{YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8])))"
)
TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
HEX = "[0-9a-fA-F]"
DAYS = r"(?:N+Y(?:N+M)?(?:N+D)?|N+M(?:N+D)?|N+D)"
CLOCK = r"T(?:N+H(?:N+M)?(?:N+S)?|N+M(?:N+S)?|N+S)"
DURATION = f"P(?:N+W|{DAYS}(?:{CLOCK})?|{CLOCK})".replace("N+", r"\d{1,6}")
UUIDS = (1, 3, 4, 5, 6, 7, 8)
BASE64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?"

FORMATS = {
    "date": f"^{DATE}$",
    "duration": f"^{DURATION}$",
    "time": f"^{TIME}$",
    "date-time": f"^{DATE}T{TIME}$",
    "byte": f"^{BASE64}$",
    "base64": f"^{BASE64}$",
    "base64url": f"^{BASE64.replace('+/', '_-')}$",
    **{
        f"uuid{n}": f"^{HEX}{{8}}-{HEX}{{4}}-{n}{HEX}{{3}}-[89abAB]{HEX}{{3}}-{HEX}{{12}}$"
        for n in (1, 3, 4, 5, 6, 7, 8)
    },
}
"""Formats that llguidance does not know, or whose texts some parsers refuse (29 February in any year, year 0, a
duration of more days than a computer counts)."""

NATIVE_FORMATS = ("email", "hostname", "ipv4", "ipv6", "uri", "uuid")
"""Formats that llguidance enforces well; all others are annotations."""

OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
GROUP = f"{HEX}{{1,4}}"
SHORTENED = "|".join(f"(?:{GROUP}:){{1,{7 - n}}}(?::{GROUP}){{1,{n}}}" for n in range(1, 7))
LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,38}[a-zA-Z0-9])?"
LAST_LABEL = "[a-zA-Z](?:[a-zA-Z0-9-]{0,38}[a-zA-Z0-9])?"
ATOM = "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,30}"
REGISTERED = f"(?:[a-zA-Z0-9._~!$&'()*+,;=-]|%{HEX}{{2}})"
IN_PATH = f"(?:[a-zA-Z0-9._~!$&'()*+,;=:@-]|%{HEX}{{2}})"
PATH = f"(?://{REGISTERED}+(?::[0-9]{{1,4}})?(?:/{IN_PATH}*)*|/?{IN_PATH}+(?:/{IN_PATH}*)*)"

FORMATS_OF_NAMES = {
    **FORMATS,
    "uuid": FORMATS["uuid4"].replace("-4[", "-[1-8]["),
    "ipv4": rf"^(?:{OCTET}\.){{3}}{OCTET}$",
    "ipv6": f"^(?:(?:{GROUP}:){{7}}{GROUP}|(?:{GROUP}:){{1,7}}:|{SHORTENED}|:(?:(?::{GROUP}){{1,7}}|:))$",
    "hostname": rf"^(?:{LABEL}\.){{0,5}}{LAST_LABEL}$",
    "email": rf"^{ATOM}(?:\.{ATOM})?@(?:{LABEL}\.){{1,3}}{LAST_LABEL}$",
    "uri": rf"^[a-zA-Z][a-zA-Z0-9+.-]*:{PATH}(?:\?(?:{IN_PATH}|[/?])*)?(?:#(?:{IN_PATH}|[/?])*)?$",
}
"""The same for names of properties, of which llguidance knows no formats: texts of the usual lengths and forms."""

APART = frozenset(("date", "time", "date-time", "duration", "ipv4", "ipv6", "email", "uuid"))
"""Formats of which no two share a text."""
