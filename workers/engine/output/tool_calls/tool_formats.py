"""How models write function calls: the marks round them, and the syntax between the marks."""

from __future__ import annotations

import importlib.util
import logging
import re
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from mlx_server.workers.engine.output.tool_calls import call_writing
from mlx_server.workers.engine.output.tool_calls.call_writing import NAMED, WRITINGS, Writing
from mlx_server.workers.engine.output.tool_calls.headed_calls import Heads
from mlx_server.workers.engine.output.tool_calls.loose_json import FUNCTION_GEMMA, GEMMA4, PYTHON
from mlx_server.workers.engine.output.tool_calls.parsed_calls import Parse
from mlx_server.workers.engine.output.tool_calls.tagged_calls import Tags

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """One way to write calls. An empty `end` means the end of the text.

    `body` is the syntax between the marks: None for `{"name": ..., "arguments": {...}}`, which is also read in the
    place of any other. `bare`: so is a text that begins with such an object, without any mark. `open` is a mark inside
    the body that begins a call even where `start` is missing. `inner` are further marks in the body. `frame` are marks
    round what is said before calls; they are no text, and a bare call may follow them. `writing` is how the model
    itself writes calls, for a grammar that forces one.
    """

    name: str
    start: str
    end: str
    body: Heads | Tags | Parse | None = None
    bare: bool = False
    open: str = ""
    inner: tuple[str, ...] = ()
    frame: tuple[str, ...] = ()
    writing: Writing = NAMED

    @property
    def marks(self) -> tuple[str, ...]:
        """Marks that must be in the text for the calls to be read."""
        body = self.body
        inner = body.marks if isinstance(body, Tags) else (body.call_end,) if isinstance(body, Heads) else ()
        return tuple(mark for mark in (self.start, self.end, self.open, *inner, *self.inner, *self.frame) if mark)


HERMES = ToolFormat("hermes", "<tool_call>", "</tool_call>")
"""The format for models that have none of their own."""

HARMONY = ToolFormat(
    "harmony",
    "<|channel|>commentary to=",
    "<|call|>",
    inner=("<|start|>", "<|message|>", "<|constrain|>", "<|end|>", "<|return|>"),
)
"""OpenAI's channels, https://cookbook.openai.com/articles/openai-harmony; `harmony.HarmonyText` reads them."""

LLAMA = ToolFormat("llama", "<|python_tag|>", "", bare=True, writing=call_writing.LLAMA_OBJECT)
LLAMA4 = ToolFormat(
    "llama4",
    "<|python_start|>",
    "",
    bare=True,
    frame=("<|python_start|>", "<|python_end|>"),
    writing=call_writing.LLAMA4_OBJECTS,
)
"""Its template writes earlier words between the marks and the calls behind them; it may write calls between them."""
COHERE = ToolFormat("cohere", "<|START_ACTION|>", "<|END_ACTION|>", writing=call_writing.COHERE_LIST)
DEEPSEEK = ToolFormat(
    "deepseek",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    # V3 and R1 write the kind of tool before its name, and a fence round the arguments; V3.1 writes neither.
    Heads(
        re.compile(r"<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>)?+([^\n<]+)(?:<｜tool▁sep｜>|\n```json\n)\s*"),
        call_end="<｜tool▁call▁end｜>",
        between=re.compile(r"```|\s+|<｜tool▁call▁end｜>"),
    ),
    inner=("<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"),
    writing=call_writing.DEEPSEEK_V31,
)
DSML = ToolFormat(
    "dsml",
    "<｜DSML｜function_calls>",
    "</｜DSML｜function_calls>",
    Tags(
        call=re.compile(r'<｜DSML｜invoke name="(?P<name>[^"]+)"[^>]*>'),
        call_start="<｜DSML｜invoke",
        call_end="</｜DSML｜invoke>",
        argument=re.compile(r'<｜DSML｜parameter name="(?P<key>[^"]+)"(?:\s+string="(?P<kind>true|false)")?[^>]*>'),
        argument_start="<｜DSML｜parameter",
        argument_end="</｜DSML｜parameter>",
        text="true",
    ),
    writing=call_writing.DSML,
)


def key_and_value(prefix: str) -> Tags:
    """GLM's calls and similar ones: a name, then keys and values in tags of their own."""
    return Tags(
        call=re.compile(rf"(?P<name>[^\s<>{{}}]+)\s*(?=<{prefix}arg_key>|</{prefix}tool_call>|\{{)"),
        call_start="",
        call_end="",
        argument=re.compile(rf"<{prefix}arg_key>(?P<key>[^<]+)</{prefix}arg_key>(?:\\n|\s)*<{prefix}arg_value>"),
        argument_start=f"<{prefix}arg_key>",
        argument_end=f"</{prefix}arg_value>",
        bare_name=True,
    )


def invoked(prefix: str) -> Tags:
    """Anthropic's old `invoke` and `parameter`, which others use too."""
    return Tags(
        call=re.compile(rf"""<{prefix}invoke\b[^>]*?\bname=(?P<quote>["']?)(?P<name>[^"'<>]+)(?P=quote)[^>]*>"""),
        call_start=f"<{prefix}invoke",
        call_end=f"</{prefix}invoke>",
        argument=re.compile(rf"""<{prefix}parameter\b[^>]*?\bname=(?P<quote>["']?)(?P<key>[^"'<>]+)(?P=quote)[^>]*>"""),
        argument_start=f"<{prefix}parameter",
        argument_end=f"</{prefix}parameter>",
    )


QWEN_TAGS = Tags(
    call=re.compile(r"<function=\s*(?P<name>[^\s<>]+)\s*>"),
    call_start="<function=",
    call_end="</function>",
    argument=re.compile(r"<parameter=\s*(?P<key>[^<>\n]+)>"),
    argument_start="<parameter=",
    argument_end="</parameter>",
    padded=True,
)
MINICPM_TAGS = Tags(
    call=re.compile(r"""\s*(?P<quote>["']?)(?P<name>[^"'<>\s]+)(?P=quote)\s*>"""),
    call_start="",
    call_end="</function>",
    argument=re.compile(r"""<param\s+name\s*=\s*(?P<quote>["']?)(?P<key>[^"'<>]+)(?P=quote)\s*>"""),
    argument_start="<param",
    argument_end="</param>",
    cdata=True,
)
KIMI_TAGS = Tags(
    call=re.compile(r'<\|open\|>call\b[^<]*?\btool="(?P<name>[^"]+)"[^<]*<\|sep\|>'),
    call_start="<|open|>call",
    call_end="<|close|>call<|sep|>",
    argument=re.compile(r'<\|open\|>argument\s+key="(?P<key>[^"]*)"(?:\s+type="(?P<kind>\w+)")?[^<]*<\|sep\|>'),
    argument_start="<|open|>argument",
    argument_end="<|close|>argument<|sep|>",
    text="string",
    noise=re.compile(r"<\|open\|>json\b[^<]*<\|sep\|>|<\|close\|>json<\|sep\|>"),
    noise_starts=("<|open|>json", "<|close|>json<|sep|>"),
)

OURS: dict[str, dict[str, Any]] = {
    "function_gemma": {
        "body": Heads(re.compile(r"call:\s*([\w.:/-]+)(?=[^\w.:/-])"), FUNCTION_GEMMA),
        "inner": ("<escape>",),
    },
    "gemma4": {"body": Heads(re.compile(r"call:\s*([\w.:/-]+)(?=[^\w.:/-])"), GEMMA4), "inner": ('<|"|>',)},
    "glm47": {"body": key_and_value(""), "inner": ("</arg_key>", "<arg_value>")},
    "kimi_k2": {
        "body": Heads(
            re.compile(r"(?:functions\.)?([^\s<>|:]+)(?::\d+)?\s*<\|tool_call_argument_begin\|>\s*"),
            call_end="<|tool_call_end|>",
            between=re.compile(r"\s+|<\|tool_call_(?:begin|end)\|>"),
        ),
        "inner": ("<|tool_call_begin|>", "<|tool_call_argument_begin|>"),
    },
    "kimi_k3": {"body": KIMI_TAGS, "inner": ("<|open|>", "<|sep|>")},
    "longcat": {
        "body": key_and_value("longcat_"),
        "inner": ("</longcat_arg_key>", "<longcat_arg_value>"),
    },
    "minicpm5": {"body": MINICPM_TAGS},
    "minimax_m2": {"body": invoked("")},
    "mistral": {
        "body": Heads(
            re.compile(r"([\w.:/-]+)\s*(?:\[CALL_ID\][\w-]*\s*)?\[ARGS\]\s*"),
            between=re.compile(r"\s+|\[TOOL_CALLS\]"),
        ),
        "inner": ("[ARGS]", "[CALL_ID]"),
    },
    "muse_spark": {"body": invoked("atem:")},
    "pythonic": {
        "body": Heads(re.compile(r"([^\W\d][\w.]*)\s*(?=\()"), PYTHON, between=re.compile(r"[\s\[\],;]+")),
    },
    "qwen3_coder": {"body": QWEN_TAGS, "open": "<function="},
}
"""The syntax of formats that mlx-lm names; we read them ourselves, see docs/tool_calls.md."""
OURS["laguna"] = OURS["glm47"]


INNER = {"minimax_m3": ("]<]minimax[>[",)}
"""Marks in the body of formats that a library's parser reads."""


def tool_format(tokenizer: Any) -> ToolFormat:
    """The format of a model, by mlx-lm's TokenizerWrapper; Hermes where nothing is known."""
    if tokenizer.tool_parser is not None:
        found = library_format(tokenizer.tool_parser, tokenizer.tool_call_start, tokenizer.tool_call_end)
        return as_template_writes(found, template_text(tokenizer.chat_template))
    vocab = tokenizer.get_vocab()
    template = template_text(tokenizer.chat_template)
    if "<|channel|>" in vocab and "<|message|>" in vocab and "<|call|>" in vocab:
        return HARMONY
    if "｜DSML｜" in vocab:
        return DSML
    if "<｜tool▁calls▁begin｜>" in template:
        return as_template_writes(DEEPSEEK, template)
    if "<|START_ACTION|>" in template:
        return COHERE
    if "]<]minimax[>[" in template:
        return minimax_m3()
    if "<|python_tag|>" in vocab and '"parameters"' in template:
        return LLAMA
    if "<|python_start|>" in vocab and '"parameters"' in template:
        return LLAMA4
    return from_template(template, vocab) or HERMES


def library_format(parse: Parse, start: str, end: str) -> ToolFormat:
    """The format that one of the libraries' parsers reads."""
    name = parse.__module__.rpartition(".")[2]
    if name == "json_tools":
        return HERMES
    ours = OURS.get(name, {"body": parse, "inner": INNER.get(name, ())})
    return ToolFormat(name, start, end, **ours, writing=WRITINGS.get(name, NAMED))


def as_template_writes(format_: ToolFormat, template: str) -> ToolFormat:
    """The format in the one of its family's two ways to write calls that this template uses."""
    if format_.name == DEEPSEEK.name and "```json" in template:
        return replace(format_, writing=call_writing.DEEPSEEK_V3)
    if format_.name == "mistral" and template and "[ARGS]" not in template:
        return replace(format_, writing=call_writing.MISTRAL_LIST)
    return format_


def template_text(template: Any) -> str:
    """A tokenizer's chat template; of several, the one for tools."""
    if isinstance(template, dict):
        template = template.get("tool_use") or template.get("default")
    return template if isinstance(template, str) else ""


def from_template(template: str, vocab: dict[str, int]) -> ToolFormat | None:
    """The format that mlx-lm finds in a template that is one of several, where it does not look itself.

    Called when a model is loaded; importing mlx_lm loads MLX, which reading answers does not need.
    """
    from mlx_lm import tokenizer_utils

    name = tokenizer_utils._infer_tool_parser(SimpleNamespace(chat_template=template, get_vocab=lambda: vocab))
    if name is None:
        return None
    module = importlib.import_module(f"mlx_lm.tool_parsers.{name}")
    found = library_format(module.parse_tool_call, module.tool_call_start, module.tool_call_end)
    return as_template_writes(found, template)


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
