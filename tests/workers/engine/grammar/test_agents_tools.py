"""Whole lists of tools that coding agents send, forced: as they are, through the real guard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support.inputs.walks import matcher_of, written
from support.running.servers import ROOT

from mlx_server.schemas.internal.generation import (
    ChatPrompt,
    GenerationRequest,
    Grammar,
    Message,
    Sampling,
    Tool,
    ToolUse,
)
from mlx_server.workers.engine.grammar.tool_grammar import arguments_schema
from mlx_server.workers.engine.grammar.vocabulary import Vocabulary
from mlx_server.workers.engine.output.output_format import OutputFormat
from mlx_server.workers.engine.prompt.prompts import PromptMaker
from mlx_server.workers.engine.sequence import Sequence

pytestmark = pytest.mark.model

AGENTS: dict[str, dict[str, Any]] = json.loads((ROOT / "tests/support/agents_tools.json").read_text())

RELAXED = {
    # Two patterns that are no regular expressions, and a pattern beside a list of words that it does not have.
    "claude-code": ("tools[9]…properties.ws.properties.protocols.items", "tools[19]…properties.resumeFromRunId"),
    "qwen-code": ("tools[0]…properties.fork_turns.oneOf",),
}


@pytest.fixture(scope="module")
def maker(smollm2: Path) -> Iterator[PromptMaker]:
    from mlx_lm.utils import load_tokenizer

    tokenizer = load_tokenizer(smollm2)
    vocabulary = Vocabulary(tokenizer, len(tokenizer))
    maker = PromptMaker(tokenizer, len(tokenizer), None, Sampling(), vocabulary, OutputFormat.of(tokenizer))
    yield maker
    maker.close()


def tools_of(agent: str, *, strict: bool = False) -> tuple[Tool, ...]:
    return tuple(Tool(name, "It does.", schema, strict) for name, schema in AGENTS[agent].items())


def forced(maker: PromptMaker, tools: tuple[Tool, ...], use: ToolUse, grammar: Grammar | None = None) -> Sequence:
    prompt = ChatPrompt((Message("user", "Go on."),), tools)
    [sequence] = maker.sequences(1, GenerationRequest((prompt,), 8, tool_use=use, grammar=grammar))
    return sequence


def test_the_lists_are_whole() -> None:
    counts = {agent: len(tools) for agent, tools in AGENTS.items()}
    assert counts == {"claude-code": 21, "cline": 25, "codex": 7, "opencode": 10, "pi": 4, "qwen-code": 14}


@pytest.mark.parametrize("agent", AGENTS)
def test_an_agents_whole_list_can_be_forced(maker: PromptMaker, agent: str) -> None:
    tools = tools_of(agent)
    told = tuple(path.replace("…", ".function.parameters.") for path in RELAXED.get(agent, ()))
    sequence = forced(maker, tools, ToolUse("required"))
    assert sequence.grammar is not None
    assert sequence.ignored == told
    assert forced(maker, tools, ToolUse("required")).grammar is not sequence.grammar
    assert forced(maker, tools, ToolUse("required", parallel=False)).ignored == told
    for index, tool in enumerate(tools):
        one = forced(maker, tools, ToolUse("named", tool.name))
        assert one.ignored == tuple(path for path in told if path.startswith(f"tools[{index}]."))


@pytest.mark.parametrize("agent", AGENTS)
def test_arguments_of_an_agents_tools_are_valid(agent: str) -> None:
    if agent in RELAXED:
        return
    for index, tool in enumerate(tools_of(agent)):
        matcher = matcher_of(arguments_schema(index, tool), guaranteed=False)
        for seed in range(2):
            if (text := written(matcher, seed, 600)) is not None:
                assert tool.parameters is not None
                jsonschema.validate(json.loads(text), tool.parameters)


def test_each_choice_has_a_matcher_of_its_own(maker: PromptMaker) -> None:
    prompt = ChatPrompt((Message("user", "Go on."),), tools_of("pi"))
    request = GenerationRequest((prompt,), 8, n=2, tool_use=ToolUse("required"))
    one, other = maker.sequences(1, request)
    assert one.grammar is not None
    assert other.grammar not in (None, one.grammar)
