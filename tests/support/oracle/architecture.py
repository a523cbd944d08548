"""A model that plays the script which it finds in its prompt, through the real engine, its cache and its batches.

Its KV states are the token ids themselves, so that a wrong cache shows as a wrong answer. A prompt holds its script as
`##S [steps] ##E`, a JSON list; each turn of the assistant plays the next step: `{"say": text}` or
`{"call": function, "arguments": {...}}`, both with an optional `"think"`. Without one, or past its end, it says so.
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
SURE = 200.0
"""The logit of the token that comes next; of one that would do where a grammar forbids that, a little less."""

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
                last[row, 0, token] = SURE - place
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
        return list(dict.fromkeys(turn[len(said)] for turn in fitting)) or [end]

    def _turns(self, prompt: str) -> list[list[int]]:
        """The turn with thoughts, with an empty block of them, and without; grammars want no lines between."""
        step = step_of(prompt)
        text = said_in(step, xml=self._xml)
        thoughts = (f"<think>\n{step.get('think', 'So be it.')}\n</think>", "<think>\n\n</think>")
        heads = (*(thought + lines for thought in thoughts for lines in ("\n\n", "")), "")
        turns = (f"assistant\n{head}{text}<|im_end|>" for head in heads)
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
