"""llama.cpp's grammars (GBNF) in Lark's notation.

llguidance's own translator makes terminals of rules without references, and its lexer takes as much for a terminal as
it can: white space at the end of one rule would take the line break that the next one asks for. Here rules stay rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from llguidance.gbnf_to_lark import ASTNode, GrammarParser, RuleRefNode

ROOT = "root"
LARK = re.compile(r"^\s*(?:%llguidance\b|start\s*:(?!:=))", re.MULTILINE)


def in_lark(source: str) -> str:
    """A grammar in Lark's notation; one that is in it already stays. Raises ValueError for what is no grammar, and what
    llguidance's parser raises."""
    if LARK.search(source):
        return source
    rules = GrammarParser().parse(source)
    if ROOT not in rules:
        raise ValueError(f"it has no rule {ROOT!r}")
    names = {name: name_of(number, name) for number, name in enumerate(rules)}
    lines = ["%llguidance {}"]
    for name, rule in rules.items():
        body = rule.alternatives.simplify()
        for reference in references_in(body):
            if reference.name not in names:
                raise ValueError(f"it has no rule {reference.name!r}")
            reference.name = names[reference.name]
        lines.append(f"{names[name]}: {body.top_str()}")
    return "\n".join(lines)


def name_of(number: int, name: str) -> str:
    """A rule's name in Lark, where small letters tell rules from terminals."""
    return "start" if name == ROOT else f"r{number}_{re.sub(r'[^a-z0-9_]', '_', name.lower())}"


def references_in(body: ASTNode) -> Iterator[RuleRefNode]:
    """All references to rules."""
    pending = [body]
    while pending:
        node = pending.pop()
        if isinstance(node, RuleRefNode):
            yield node
        pending += node.children()
