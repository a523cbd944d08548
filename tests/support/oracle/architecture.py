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
from mlx_lm.models.base import BaseModelArgs
from tokenizers import Tokenizer

SCRIPT = re.compile(r"##S\s(.*?)##E", re.DOTALL)
TURN = "<|im_start|>assistant\n"
TOOLS = "<tools>"
SURE = 200.0
"""The logit of the one token that comes next."""

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
        chosen = mx.array([self._player.next(context) for context in contexts])
        last = mx.where(mx.arange(self.args.vocab_size) == chosen[:, None, None], SURE, 0.0)
        return mx.concatenate([mx.zeros((rows, length - 1, self.args.vocab_size)), last], axis=1)


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

    def next(self, context: Sequence[int]) -> int:
        """The token after these: the next one of the turn that is open, as far as it agrees with it."""
        start, end = (self._tokenizer.token_to_id(mark) for mark in ("<|im_start|>", "<|im_end|>"))
        if start not in context:
            return int(end)
        turn = len(context) - list(reversed(context)).index(start)
        before, said = tuple(context[:turn]), list(context[turn:])
        if before not in self._plans:
            self._plans = {before: self._turns(self._tokenizer.decode(list(before), skip_special_tokens=False))}
        for tokens in self._plans[before]:
            if tokens[: len(said)] == said and len(said) < len(tokens):
                return tokens[len(said)]
        return int(end)

    def _turns(self, prompt: str) -> list[list[int]]:
        """The turn as it may be: with thoughts, without, and with an empty block of them."""
        step = step_of(prompt)
        text = said_in(step, xml=self._xml)
        heads = (
            f"assistant\n<think>\n{step.get('think', 'So be it.')}\n</think>\n\n",
            "assistant\n<think>\n\n</think>\n\n",
        )
        ends = [*(head + text for head in heads), f"assistant\n{text}"]
        return [self._tokenizer.encode(turn + "<|im_end|>", add_special_tokens=False).ids for turn in ends]


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
