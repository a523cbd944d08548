"""Lark grammars of texts that stand between the quotes of a JSON string, where some characters are escaped.

llguidance's lexer ends a token only where the next character can't go on with it, and never goes back. A run of any
characters, which may hold escapes, and the line break behind it both go on with a backslash. Such a run becomes tokens
without escapes, and the escapes tokens of their own between them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mlx_server.workers.engine.grammar.regexes_in_json import UnsayableError, run_of, within_a_token

TOKEN = re.compile(
    r"""(?P<space>\s+|(?://|\#)[^\n]*)
    | (?P<range>"."\s*\.\.\s*".")
    | (?P<string>"(?:\\.|[^"\\])*"i?)
    | (?P<regex>/(?:\\.|[^/\\])+/[a-z]*)
    | %import\s+common\s*(?:\.\s*(?P<one>\w+)(?:\s*->\s*(?P<alias>\w+))?|\((?P<several>[\w\s,]+)\))
    | (?P<ignore>%ignore)
    | (?P<name>[A-Za-z_][\w-]*)
    | (?P<mark>->|~\s*\d+|[][?!:|*+(){},.0-9])""",
    re.VERBOSE,
)
IMPORTED = {
    "LF": r'"\n"',
    "CR": r'"\r"',
    "NEWLINE": r'("\r"? "\n")+',
    "WS": r"/[ \t\f\r\n]+/",
    "WS_INLINE": r"/[ \t]+/",
}
"""Those of Lark's common terminals that have characters which JSON escapes."""

AS_THEY_ARE = {"DIGIT", "HEXDIGIT", "INT", "SIGNED_INT", "DECIMAL", "FLOAT", "SIGNED_FLOAT", "NUMBER", "SIGNED_NUMBER"}
AS_THEY_ARE |= {"LCASE_LETTER", "UCASE_LETTER", "LETTER", "WORD", "CNAME"}


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a grammar. `changed`: escapes are in it; `spread`: it stands for several of the lexer's tokens."""

    kind: str
    text: str
    changed: bool = False
    spread: bool = False

    @property
    def is_terminal(self) -> bool:
        """Whether it names what the lexer finds."""
        return self.kind == "name" and self.text == self.text.upper()


def in_json(source: str) -> str | None:
    """A grammar of the same texts as JSON writes them between quotes; None where that can't be said here."""
    try:
        return "".join(token.text for token in with_rules([escaped(token) for token in tokens_of(source)]))
    except UnsayableError:
        return None


def tokens_of(source: str) -> Iterator[Token]:
    """A grammar's tokens, its imports written out. Raises UnsayableError for what is not known here, such as tokens
    that are the lack of others."""
    at = 0
    while at < len(source):
        token = TOKEN.match(source, at)
        if token is None:
            raise UnsayableError
        at = token.end()
        if token["one"] or token["several"]:
            yield from imported(token["one"] or token["several"], token["alias"])
        else:
            yield Token(str(token.lastgroup), token[0])


def imported(names: str, alias: str | None) -> Iterator[Token]:
    """Definitions of common terminals. Raises UnsayableError."""
    for name in names.replace(",", " ").split():
        if name in AS_THEY_ARE:
            yield Token("import", f"%import common.{name}" + (f" -> {alias}" if alias else ""))
        elif name in IMPORTED:
            yield from tokens_of(f"{alias or name}: {IMPORTED[name]}")
        else:
            raise UnsayableError
        yield Token("space", "\n")


def escaped(token: Token) -> Token:
    """A token of escaped text. Raises UnsayableError."""
    match token.kind:
        case "string":
            return fixed(token)
        case "range" if any(token.text[1] <= character <= token.text[-2] for character in '"\\'):
            raise UnsayableError
        case "regex":
            end = token.text.rindex("/")
            expression, flags = token.text[1:end], token.text[end + 1 :]
            if (inside := within_a_token(expression, flags)) is not None:
                return replace(token, text=f"/{inside}/{flags}", changed=inside != expression)
            return replace(token, text=run_of(expression, flags), changed=True, spread=True)
    return token


def fixed(token: Token) -> Token:
    """The same for a fixed text. Raises UnsayableError."""
    try:
        text = json.loads(token.text.removesuffix("i"))
    except ValueError:
        raise UnsayableError from None
    written = json.dumps(text, ensure_ascii=False)[1:-1]
    if written == text:
        return token
    if token.text.endswith("i"):  # an escape's letter is not any letter
        raise UnsayableError
    return replace(token, text=json.dumps(written, ensure_ascii=False), changed=True)


def with_rules(tokens: list[Token]) -> list[Token]:
    """Terminals that are several tokens now become rules. Raises UnsayableError where they would lose their meaning."""
    if any(token.kind == "ignore" for token in tokens) and any(token.changed for token in tokens):
        raise UnsayableError
    bodies = terminals_of(tokens)
    # Such as a line break: one escape, and nothing else.
    escapes = {name for name, body in bodies.items() if len(body) == 1 and body[0].changed and not body[0].spread}
    names = {token.text for token in tokens}
    renamed = {}
    for name in spread_terminals(bodies, escapes):
        check_ends(bodies[name], escapes)
        renamed[name] = fresh(name, names)
    return [replace(token, text=renamed.get(token.text, token.text)) for token in tokens]


def spread_terminals(bodies: dict[str, list[Token]], escapes: set[str]) -> list[str]:
    """The terminals that hold escapes beside other things, in their own words or in those of others."""
    users: dict[str, list[str]] = {}
    for name, body in bodies.items():
        for token in body:
            users.setdefault(token.text, []).append(name)
    found: set[str] = set()
    pending = [name for name, body in bodies.items() if any(token.changed for token in body)]
    pending += [name for escape in escapes for name in users.get(escape, ())]
    while pending:
        name = pending.pop()
        if name not in found and name not in escapes:
            found.add(name)
            pending += users.get(name, ())
    return sorted(found)


def check_ends(body: list[Token], escapes: set[str]) -> None:
    """Raise UnsayableError for a run that could take what follows it in its terminal for a part of itself."""
    for token, after in zip(body, [*body[1:], Token("mark", "|")], strict=True):
        escape = after.text in escapes or after.text.startswith('"\\\\')
        if token.spread and not escape and after.text not in ("|", ")"):
            raise UnsayableError


def terminals_of(tokens: list[Token]) -> dict[str, list[Token]]:
    """The definitions of a grammar's terminals."""
    found: dict[str, list[Token]] = {}
    body: list[Token] = []
    said = [token for token in tokens if token.kind != "space"]
    for token, after in zip(said, [*said[1:], Token("space", "")], strict=True):
        if token.kind == "name" and after.text == ":":
            body = found.setdefault(token.text, []) if token.is_terminal else []
        elif token.text != ":":
            body.append(token)
    return found


def fresh(name: str, names: set[str]) -> str:
    """A rule's name that is not there yet."""
    made = f"t_{name.lower().lstrip('_')}"
    while made in names:
        made += "_"
    return made
