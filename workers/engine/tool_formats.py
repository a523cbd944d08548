"""How models write function calls: the marks round them, and who reads what stands between."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from mlx_lm import tokenizer_utils

from mlx_server.schemas.generation import ToolUse
from mlx_server.workers.engine.tool_parsers import parse_dsml

log = logging.getLogger(__name__)

Parse = Callable[[str, Any], Any]
"""What stands between the marks, and the functions in OpenAI's form; may raise anything."""


def _no_parser(_text: str, _tools: Any) -> Any:
    raise ValueError("this format is read as it is written")


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """One way to write calls. An empty `end` means the end of the text.

    `json`: the calls are `{"name": ..., "arguments": {...}}`, one or several. `bare`: so is a text that begins with
    such an object, without any mark. `lists`: the parser's own syntax begins with a bracket, which is not JSON's.
    `argument_end` and `call_end` are marks where a part of the body can be parsed, the first with `closer` appended.
    `head` finds what stands before arguments that are one JSON object, and the function's name in it. `inner` are
    further marks in the body.
    """

    name: str
    start: str
    end: str
    parse: Parse = _no_parser
    json: bool = False
    bare: bool = False
    lists: bool = False
    argument_end: str = ""
    call_end: str = ""
    closer: str = ""
    head: re.Pattern[str] | None = None
    inner: tuple[str, ...] = ()

    @property
    def marks(self) -> tuple[str, ...]:
        """All marks that must be in the text for it to be read."""
        given = (self.start, self.end, self.argument_end, self.call_end, self.closer, *self.inner)
        return tuple(mark for mark in given if mark)


HERMES = ToolFormat("hermes", "<tool_call>", "</tool_call>", json=True)
"""What a model is told to write that has no way of its own."""

HARMONY = ToolFormat(
    "harmony",
    "<|channel|>commentary to=",
    "<|call|>",
    inner=("<|start|>", "<|message|>", "<|constrain|>", "<|end|>", "<|return|>"),
)
"""OpenAI's channels, https://cookbook.openai.com/articles/openai-harmony; `harmony.HarmonyText` reads them."""

LLAMA = ToolFormat("llama", "<|python_tag|>", "", json=True, bare=True)
COHERE = ToolFormat("cohere", "<|START_ACTION|>", "<|END_ACTION|>", json=True)
DEEPSEEK = ToolFormat(
    "deepseek",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    # V3 and R1 write the kind of tool before its name, and a fence round the arguments; V3.1 writes neither.
    head=re.compile(
        r"<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>)?([^\n<]+)(?:<｜tool▁sep｜>|\n```json\n)\s*(?=\{)"
    ),
    inner=("<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"),
)
DSML = ToolFormat(
    "dsml",
    "<｜DSML｜function_calls>",
    "</｜DSML｜function_calls>",
    parse_dsml,
    argument_end="</｜DSML｜parameter>",
    call_end="</｜DSML｜invoke>",
    closer="</｜DSML｜invoke>",
)

DETAILS: dict[str, dict[str, Any]] = {
    "function_gemma": {"inner": ("<escape>",)},
    "gemma4": {"inner": ('<|"|>',)},
    "glm47": {"argument_end": "</arg_value>", "inner": ("<arg_key>", "</arg_key>", "<arg_value>")},
    "kimi_k2": {
        "head": re.compile(r"(?:functions\.)?([^\s.<>|:]+):\d+\s*<\|tool_call_argument_begin\|>\s*(?=\{)"),
        "inner": ("<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"),
    },
    "kimi_k3": {
        "argument_end": "<|close|>argument<|sep|>",
        "call_end": "<|close|>call<|sep|>",
        "closer": "<|close|>call<|sep|>",
        "inner": ("<|open|>",),
    },
    "longcat": {
        "argument_end": "</longcat_arg_value>",
        "inner": ("<longcat_arg_key>", "</longcat_arg_key>", "<longcat_arg_value>"),
    },
    "minicpm5": {"argument_end": "</param>", "closer": "</function>", "inner": ("<param name=",)},
    "minimax_m2": {"argument_end": "</parameter>", "call_end": "</invoke>", "closer": "</invoke>"},
    "minimax_m3": {"inner": ("]<]minimax[>[",)},
    "mistral": {
        "head": re.compile(r"([\w.-]+)\s*(?:\[CALL_ID\][\w-]*\s*)?\[ARGS\]\s*(?=\{)"),
        "inner": ("[ARGS]", "[CALL_ID]"),
    },
    "muse_spark": {
        "argument_end": "</atem:parameter>",
        "call_end": "</atem:invoke>",
        "closer": "</atem:invoke>",
    },
    "pythonic": {"lists": True},
    "qwen3_coder": {"argument_end": "</parameter>", "call_end": "</function>", "closer": "</function>"},
}
"""What mlx-lm and mlx-vlm do not say of their parsers' formats."""
DETAILS["laguna"] = DETAILS["glm47"]


def tool_format(tokenizer: Any) -> ToolFormat:
    """The format of a model, by mlx-lm's TokenizerWrapper; Hermes where nothing is known."""
    if tokenizer.tool_parser is not None:
        return library_format(tokenizer.tool_parser, tokenizer.tool_call_start, tokenizer.tool_call_end)
    vocab = tokenizer.get_vocab()
    template = template_text(tokenizer.chat_template)
    if "<|channel|>" in vocab and "<|message|>" in vocab and "<|call|>" in vocab:
        return HARMONY
    if "｜DSML｜" in vocab:
        return DSML
    if "<｜tool▁calls▁begin｜>" in template:
        return DEEPSEEK
    if "<|START_ACTION|>" in template:
        return COHERE
    if "]<]minimax[>[" in template:
        return minimax_m3()
    if "<|python_tag|>" in vocab and '"parameters"' in template:
        return LLAMA
    return from_template(template, vocab) or HERMES


def library_format(parse: Parse, start: str, end: str) -> ToolFormat:
    """The format that one of the libraries' parsers reads."""
    name = parse.__module__.rpartition(".")[2]
    if name == "json_tools":
        return HERMES
    return ToolFormat(name, start, end, parse, **DETAILS.get(name, {}))


def template_text(template: Any) -> str:
    """A tokenizer's chat template; of several the one for tools."""
    if isinstance(template, dict):
        template = template.get("tool_use") or template.get("default")
    return template if isinstance(template, str) else ""


def from_template(template: str, vocab: dict[str, int]) -> ToolFormat | None:
    """What mlx-lm makes of a template that is one of several, where it does not look itself."""
    name = tokenizer_utils._infer_tool_parser(SimpleNamespace(chat_template=template, get_vocab=lambda: vocab))
    if name is None:
        return None
    module = importlib.import_module(f"mlx_lm.tool_parsers.{name}")
    return library_format(module.parse_tool_call, module.tool_call_start, module.tool_call_end)


def minimax_m3() -> ToolFormat:
    """mlx-vlm's parser, read from its file: importing that package loads its image and audio libraries."""
    package = importlib.util.find_spec("mlx_vlm")
    for folder in (package.submodule_search_locations or []) if package else []:
        spec = importlib.util.spec_from_file_location("minimax_m3", f"{folder}/tools/parsers/minimax_m3.py")
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return library_format(module.parse_tool_call, module.tool_call_start, module.tool_call_end)
    log.warning("mlx-vlm is not installed, which reads this model's function calls: it is told to write others")
    return HERMES


def answer_format(native: ToolFormat, tool_use: ToolUse, *, enforced: bool) -> ToolFormat:
    """The format that an answer will be in. Where a grammar enforces it, calls are Hermes' JSON."""
    if enforced and tool_use.choice != "none" and native is not HERMES:
        return HERMES
    return native
