"""A model that plays the script which it finds in its prompt, through the real engine, its cache and its batches.

Its KV states are the token ids themselves, so that a wrong cache shows as a wrong answer. A prompt holds its script as
`##S [steps] ##E`, a JSON list; each turn of the assistant plays the next step: `{"say": text}` or
`{"call": function, "arguments": {...}}`, both with an optional `"think"`. Without one, or past its end, it says so;
with a `replies.json` in its folder it reacts to what the user said last: see `reply_to`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.base import BaseModelArgs
from tokenizers import Tokenizer

SCRIPT = re.compile(r"##S\s(.*?)##E", re.DOTALL)
TURN = "<|im_start|>assistant\n"
TOOLS = "<tools>"
USER = re.compile(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", re.DOTALL)
RESULT = re.compile(r"<tool_response>\n(.*)\n</tool_response>", re.DOTALL)
ENDINGS = ("<|im_end|>", '"}', '"]', '"', "}", "]", ",", "1", "</tool_call>", "\n</tool_call>")
"""What ends a text soonest, where a grammar allows it; in a string a brace ends nothing."""
SURE = 400.0
STEP = 20.0
"""The logit of the token that comes next; of one that would do where a grammar forbids that, a step less."""

Step = dict[str, Any]


@dataclass
class ModelArgs(BaseModelArgs):
    """The folder's config; `folder` is where its tokenizer lies."""

    model_type: str
    vocab_size: int
    folder: str
    hidden_size: int = 8
    num_hidden_layers: int = 1
    num_attention_heads: int = 1
    num_key_value_heads: int = 1
    head_dim: int = 1


class Layer(nn.Module):
    """There has to be one: caches are made by layers."""


class Embedded(nn.Module):
    """The only weights, which nothing reads."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(args.vocab_size, args.hidden_size)
        self.layers = [Layer()]


class Model(nn.Module):
    """The architecture `oracle`."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.args = args
        self.model_type = args.model_type
        self.model = Embedded(args)
        self._player = Player(Path(args.folder))

    @property
    def layers(self) -> list[Layer]:
        """Its layers."""
        return self.model.layers

    def __call__(self, inputs: mx.array, cache: Any = None) -> mx.array:
        """Logits [B, L, V] for token ids [B, L]: those of the last position say what comes next, others nothing."""
        rows, length = inputs.shape
        keys = inputs.astype(mx.float32)[:, None, :, None]
        if cache is not None and cache[0] is not None:
            keys, _ = cache[0].update_and_fetch(keys, keys)
        padding = getattr(cache[0], "left_padding", None) if cache is not None else None
        skipped = [0] * rows if padding is None else padding.tolist()
        contexts = [list(map(int, keys[row, 0, skipped[row] :, 0].tolist())) for row in range(rows)]
        last = np.zeros((rows, 1, self.args.vocab_size), np.float32)
        for row, context in enumerate(contexts):
            for place, token in enumerate(self._player.next(context)):
                last[row, 0, token] = SURE - STEP * place
        return mx.concatenate([mx.zeros((rows, length - 1, self.args.vocab_size)), mx.array(last)], axis=1)


class Player:
    """What comes next after any context."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._plans: dict[tuple[int, ...], list[list[int]]] = {}

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(str(self._folder / "tokenizer.json"))

    @cached_property
    def _endings(self) -> list[int]:
        ids = (self._tokenizer.encode(text, add_special_tokens=False).ids for text in ENDINGS)
        return [one[0] for one in ids if len(one) == 1]

    @cached_property
    def _replies(self) -> list[dict[str, Any]] | None:
        path = self._folder / "replies.json"
        return json.loads(path.read_text()) if path.exists() else None

    @cached_property
    def _xml(self) -> bool:
        return "<function=" in (self._folder / "chat_template.jinja").read_text()

    def next(self, context: Sequence[int]) -> list[int]:
        """The tokens that go on with the open turn, as far as it agrees with what is planned; the best first."""
        start, end = (self._tokenizer.token_to_id(mark) for mark in ("<|im_start|>", "<|im_end|>"))
        if start not in context:
            return [end]
        turn = len(context) - list(reversed(context)).index(start)
        before, said = tuple(context[:turn]), list(context[turn:])
        if before not in self._plans:
            self._plans = {before: self._turns(self._tokenizer.decode(list(before), skip_special_tokens=False))}
        fitting = [turn for turn in self._plans[before] if turn[: len(said)] == said and len(said) < len(turn)]
        planned = list(dict.fromkeys(turn[len(said)] for turn in fitting)) or [end]
        return planned if self._replies is None else list(dict.fromkeys((*planned, *self._endings)))

    def _turns(self, prompt: str) -> list[list[int]]:
        """What may be said after a prompt, the best first."""
        if self._replies is not None:
            return self._reactions(reply_to(prompt, self._replies), prompt)
        step = step_of(prompt)
        return self._encoded([said_in(step, xml=self._xml)], step.get("think", "So be it."))

    def _reactions(self, step: Step, prompt: str) -> list[list[int]]:
        """The turn, and what a grammar may want in its place: its JSON, or a call of any function."""
        steps = [step, *([{"say": json.dumps(step["json"])}] if "json" in step else [])]
        steps += [call_of([tool], heard_in(prompt)) for tool in offered(prompt)]
        return self._encoded([said_in(one, xml=self._xml) for one in steps], step.get("think"))

    def _encoded(self, texts: list[str], thought: str | None) -> list[list[int]]:
        """Turns with thoughts, with an empty block of them, and without; grammars want no lines between."""
        thoughts = [] if thought is None else [f"<think>\n{thought}\n</think>", "<think>\n\n</think>"]
        heads = (*(thought + lines for thought in thoughts for lines in ("\n\n", "")), "")
        turns = [f"assistant\n{head}{text}<|im_end|>" for text in texts for head in heads]
        return [self._tokenizer.encode(turn, add_special_tokens=False).ids for turn in turns]


def step_of(prompt: str) -> Step:
    """What the last script of a prompt has for the turn at its end."""
    found = list(SCRIPT.finditer(prompt))
    if not found:
        return {"say": "I have no script."}
    script = steps_of(found[-1].group(1))
    first = next(each for each in found if each.group(1) == found[-1].group(1))
    done = prompt.count(TURN, first.end())
    step = script[done] if done < len(script) else {"say": f"Finished after {done} steps."}
    # Agents ask for titles and the like, too, and quote what they were told.
    return step if "say" in step or TOOLS in prompt else {"say": "A title"}


def reply_to(prompt: str, replies: list[dict[str, Any]]) -> Step:
    """The step of the first of `replies` whose regular expression `when` is found in what the user said last.

    Where a grammar forbids it, its `json` is said, or a function is called; it thinks only where it has a `think`.

    `{"call": "*"}` calls the function that is named there, else the first that is offered, with plausible arguments;
    without tools it is passed over. After a tool's result the answer is that result.
    """
    heard = heard_in(prompt)
    if (result := RESULT.search(heard)) is not None:
        return {"say": f"The result is {result.group(1)}."}
    tools = offered(prompt)
    for reply in replies:
        if re.search(reply["when"], heard) and (tools or "call" not in reply):
            return call_of(tools, heard) if reply.get("call") == "*" else reply
    return {"say": "I have no reply."}


def heard_in(prompt: str) -> str:
    """What the user said last."""
    return next(reversed(USER.findall(prompt)), "")


def offered(prompt: str) -> list[dict[str, Any]]:
    """The functions that a prompt describes."""
    described = prompt.partition(TOOLS)[2].partition("</tools>")[0]
    return [json.loads(line)["function"] for line in described.splitlines() if line.strip()]


def call_of(tools: list[dict[str, Any]], heard: str) -> Step:
    """A call of the function whose name was heard (the longest of them), or of the first one."""
    named = sorted((tool for tool in tools if tool["name"] in heard), key=lambda tool: -len(tool["name"]))
    tool = (named or tools)[0]
    schema = tool.get("parameters") or {}
    required = {name: schema["properties"][name] for name in schema.get("required", ())}
    return {"call": tool["name"], "arguments": {name: example(value, heard) for name, value in required.items()}}


def example(schema: dict[str, Any], heard: str) -> Any:
    """A value that a simple schema allows, with the first number or quotation that was heard."""
    if "enum" in schema:
        return schema["enum"][0]
    number = re.search(r"\d+", heard)
    quoted = re.search(r"['\"「](.+?)['\"」]", heard)
    values = {"boolean": True, "array": [], "object": {}, "string": quoted.group(1) if quoted else "San Francisco, CA"}
    return values.get(schema.get("type", "string"), int(number.group()) if number else 1)


def steps_of(text: str) -> list[Step]:
    """A script, also one that stands between quotation marks."""
    for given in (text, text.replace('\\"', '"'), text.replace('\\"', '"').replace("\\\\", "\\")):
        try:
            return list(json.loads(given))
        except ValueError:
            continue
    return [{"say": f"This is no script: {text}"}]


def said_in(step: Step, *, xml: bool) -> str:
    """A step as the model writes it: calls as Qwen3-Coder's tags, or as JSON, as Hermes does."""
    if "call" not in step:
        return str(step["say"])
    arguments = step.get("arguments", {})
    if not xml:
        call = json.dumps({"name": step["call"], "arguments": arguments}, ensure_ascii=False)
        return f"<tool_call>\n{call}\n</tool_call>"
    values = {name: value if isinstance(value, str) else json.dumps(value) for name, value in arguments.items()}
    given = "".join(f"<parameter={name}>\n{value}\n</parameter>\n" for name, value in values.items())
    return f"<tool_call>\n<function={step['call']}>\n{given}</function>\n</tool_call>"
