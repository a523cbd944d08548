"""The language chat templates are written in: Jinja as transformers sets it up. Loads jinja2 and nothing heavy."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from jinja2 import Environment, meta, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace


class GenerationBlocks(Extension):
    """`{% generation %}` marks what an assistant says, for training; here its body is rendered as it stands."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it as a plain attribute

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The body alone."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class PlainNamespace(Namespace):
    """`namespace` without names that lead into Python's internals."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            PlainNamespace._check(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        PlainNamespace._check(name)
        super().__setitem__(name, value)

    @staticmethod
    def _check(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a namespace takes no name with an underscore in front, got {name!r}")


class PlainDict:
    """`dict` as a function only: the type itself has attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        """As dict's own."""
        return dict.fromkeys(*args)


def environment() -> Environment:
    """The environment of transformers' `apply_chat_template` (version 5): same options, filters and functions."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlocks, loopcontrols]
    )
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = strftime_now
    made.globals["dict"] = PlainDict()
    made.globals["namespace"] = PlainNamespace
    return made


def variables(template: str) -> frozenset[str]:
    """What a template reads from outside, the environment's functions excepted. Raises TemplateSyntaxError.

    Constants are folded meanwhile: a hostile template can hang here.
    """
    made = environment()
    return frozenset(meta.find_undeclared_variables(made.parse(template)) - made.globals.keys())


def raise_exception(message: object) -> None:
    """How a template refuses a conversation."""
    raise TemplateError(str(message))


def tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """JSON without the escapes that jinja2's own filter makes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def strftime_now(layout: str) -> str:
    """The local time now."""
    return datetime.now().strftime(layout)
