"""The grammars of a model's answers that hold calls, with what of the functions' schemas is enforced."""

from __future__ import annotations

import json

from llguidance import LLMatcher

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import Grammar, Tool, ToolUse
from mlx_server.workers.engine.distinct import Matcher
from mlx_server.workers.engine.json_schema import Enforceable
from mlx_server.workers.engine.recent import Recent
from mlx_server.workers.engine.tool_formats import ToolFormat
from mlx_server.workers.engine.tool_grammar import (
    Special,
    callable_tools,
    enforced_arguments,
    head_of,
    param_of,
    tool_grammar,
)
from mlx_server.workers.engine.vocabulary import Vocabulary

KEPT_ARGUMENTS = 512
"""Functions of agents: one has 25, and each turn sends them all."""

Key = tuple[str, bool, str]


class CallGrammars:
    """Tokenizer's thread only."""

    def __init__(self, vocabulary: Vocabulary, special: Special) -> None:
        self._vocabulary = vocabulary
        self._special = special
        self._arguments = Recent[Key, Enforceable](KEPT_ARGUMENTS)

    def matcher(
        self, native: ToolFormat, tools: tuple[Tool, ...], tool_use: ToolUse, content: Grammar | None
    ) -> tuple[Matcher, tuple[str, ...]]:
        """A matcher of an answer about which something is enforced, and the paths of what is not enforced in it.

        Raises InvalidRequest.
        """
        ignored: list[str] = []
        heads = {}
        if content is not None and tool_use.choice == "auto":
            self._vocabulary.compile(content)
            made = self._vocabulary.enforced(content)
            ignored += made.ignored
            heads[b""] = made
        try:
            found = self._matcher(native, tools, tool_use, content)
        except InvalidRequest:
            self._settle(tools, tool_use)
            found = self._matcher(native, tools, tool_use, content)
        for index, tool in callable_tools(tools, tool_use):
            made = self._enforced(index, tool)
            ignored += made.ignored
            heads[head_of(tool).encode()] = made
        return self._vocabulary.watched(found, heads), tuple(ignored)

    def _matcher(
        self, native: ToolFormat, tools: tuple[Tool, ...], tool_use: ToolUse, content: Grammar | None
    ) -> LLMatcher:
        source = tool_grammar(
            native,
            tools,
            tool_use,
            content,
            self._special,
            lambda index, tool: self._enforced(index, tool).schema,
            self._vocabulary.source,
        )
        assert source is not None
        return self._vocabulary.matcher(source, "tools")

    def _enforced(self, index: int, tool: Tool) -> Enforceable:
        return self._arguments.get(key_of(index, tool), lambda: enforced_arguments(index, tool))

    def _settle(self, tools: tuple[Tool, ...], tool_use: ToolUse) -> None:
        """Look at each function alone. Raises InvalidRequest for the first strict one that can't be enforced."""
        for index, tool in callable_tools(tools, tool_use):
            made = enforced_arguments(index, tool, self._vocabulary.objection)
            self._arguments.put(key_of(index, tool), made)


def key_of(index: int, tool: Tool) -> Key:
    """What the arguments' schema depends on."""
    return param_of(index, tool), tool.strict, json.dumps(tool.parameters)
