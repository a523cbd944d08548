"""The grammars of a model's answers that hold calls, with what of the functions' schemas is enforced."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Hashable
from typing import Any, NamedTuple

import msgspec

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Grammar, Tool, ToolUse
from mlx_server.workers.engine.grammar.call_forms import Callee, Special
from mlx_server.workers.engine.grammar.distinct import Matcher
from mlx_server.workers.engine.grammar.json_schema import Enforceable
from mlx_server.workers.engine.grammar.texts_in_json import in_json
from mlx_server.workers.engine.grammar.tool_grammar import (
    CallsGrammar,
    callable_tools,
    enforced_arguments,
    param_of,
    path_of,
    tool_grammar,
)
from mlx_server.workers.engine.grammar.vocabulary import Vocabulary
from mlx_server.workers.engine.output.tool_calls.tool_formats import HARMONY, ToolFormat
from mlx_server.workers.engine.recent import Recent

KEPT_ARGUMENTS = 512
"""Functions of agents: one has 25, and each turn sends them all."""

HARMONY_ANSWER = b"final<|message|>"

KEPT_ANSWERS = 16

Key = tuple[str, bool, str]


class Enforced(NamedTuple):
    """What is enforced of an answer: a grammar in llguidance's notation, the documents that begin behind the `heads`,
    and the paths of what is not enforced."""

    source: str
    heads: dict[bytes, Enforceable]
    ignored: tuple[str, ...]


class CallGrammars:
    """Tokenizer's thread only."""

    def __init__(self, vocabulary: Vocabulary, special: Special) -> None:
        self._vocabulary = vocabulary
        self._special = special
        self._arguments = Recent[Key, Enforceable](KEPT_ARGUMENTS)
        self._answers = Recent[Hashable, Enforced](KEPT_ANSWERS)

    def matcher(
        self, native: ToolFormat, tools: tuple[Tool, ...], tool_use: ToolUse, content: Grammar | None
    ) -> tuple[Matcher, tuple[str, ...]]:
        """A matcher of one answer about which something is enforced, and the paths of what is not enforced in it.

        What it is made of is kept for the last few: an agent sends the same functions each turn. Raises InvalidRequest.
        """
        callable_ = callable_tools(tools, tool_use)
        functions = tuple((tool.name, tool.text, key_of(index, tool)) for index, tool in callable_)
        key = (native, functions, tool_use, content)
        answer = self._answers.get(key, lambda: self._answer(native, callable_, tool_use, content))
        matcher = self._vocabulary.matcher(answer.source, "tools")
        return self._vocabulary.watched(matcher, answer.heads), answer.ignored

    def _answer(
        self, native: ToolFormat, callable_: list[tuple[int, Tool]], tool_use: ToolUse, content: Grammar | None
    ) -> Enforced:
        ignored: list[str] = []
        heads: dict[bytes, Enforceable] = {}
        if content is not None and tool_use.choice == "auto":
            self._vocabulary.compile(content)
            made = self._vocabulary.enforced(content)
            ignored += made.ignored
            heads[HARMONY_ANSWER if native is HARMONY else b""] = made
        texts = {index: self._text(tool, ignored) for index, tool in callable_}
        try:
            calls = self._calls(native, callable_, texts, tool_use, content)
        except InvalidRequest:
            self._settle(callable_)
            calls = self._settled_calls(native, callable_, texts, tool_use, content)
        arguments = {index: self._enforced(index, tool) for index, tool in callable_}
        ignored += [path for made in arguments.values() for path in made.ignored]
        heads |= {head: arguments[index] for head, index in calls.heads.items()}
        return Enforced(calls.source, heads, (*ignored, *calls.ignored))

    def _settled_calls(self, native: ToolFormat, *request: Any) -> CallsGrammar:
        """What can be enforced of each function alone; as JSON if only that can be."""
        try:
            return self._calls(native, *request)
        except InvalidRequest:
            return self._calls(native, *request, named=True)

    def _calls(
        self,
        native: ToolFormat,
        callable_: list[tuple[int, Tool]],
        texts: dict[int, Grammar | None],
        tool_use: ToolUse,
        content: Grammar | None,
        *,
        named: bool = False,
    ) -> CallsGrammar:
        callees = [
            Callee(index, tool, self._enforced(index, tool).schema, text, self._quoted(text))
            for (index, tool), text in zip(callable_, texts.values(), strict=True)
        ]
        source = self._vocabulary.source
        made = tool_grammar(native, callees, tool_use, content, self._special, source, named=named)
        self._vocabulary.check(made.source, "tools")
        return made

    def _text(self, tool: Tool, ignored: list[str]) -> Grammar | None:
        """The grammar of a function's text, if it can be enforced; its path is told if not."""
        text = tool.text
        if text is None:
            return None
        with contextlib.suppress(InvalidRequest):
            if self._vocabulary.objection(self._vocabulary.source(text)) is None:
                return text
        ignored.append(path_of(text))
        return None

    def _quoted(self, text: Grammar | None) -> Grammar | None:
        """The grammar of a function's text in a JSON string, if it has a Lark grammar that can be said so."""
        if text is None or text.kind != "lark" or (source := in_json(text.text)) is None:
            return None
        quoted = msgspec.structs.replace(text, text=source)
        return quoted if self._vocabulary.objection(self._vocabulary.source(quoted)) is None else None

    def _enforced(self, index: int, tool: Tool) -> Enforceable:
        return self._arguments.get(key_of(index, tool), lambda: enforced_arguments(index, tool))

    def _settle(self, callable_: list[tuple[int, Tool]]) -> None:
        """Look at each function alone. Raises InvalidRequest for the first strict one that can't be enforced."""
        for index, tool in callable_:
            made = enforced_arguments(index, tool, self._vocabulary.objection)
            self._arguments.put(key_of(index, tool), made)


def key_of(index: int, tool: Tool) -> Key:
    """What the arguments' schema depends on."""
    return param_of(index, tool), tool.strict, json.dumps(tool.parameters)
