"""Models that play scripts: see `oracle/architecture.py`. Each server that serves one needs `ENVIRONMENT`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tokenizers import AddedToken, Tokenizer

ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).with_name("oracle"))}

MARKS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
CONTEXT = 262_144

Kind = Literal["lenient", "strict"]

TURNS = """\
{%- for m in messages %}
{%- if m.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' }}
{%- elif m.role == 'system' and loop.index0 == 0 %}
{%- elif m.role == 'system' %}
{{- MIDDLE }}
{%- else %}
{{- '<|im_start|>' + m.role + '\\n' + m.content }}
{%- for call in m.tool_calls or [] %}
{{- ('\\n' if m.content or not loop.first else '') }}CALL
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
SYSTEM = """\
{%- set system = messages[0].content if messages[0].role == 'system' else '' %}
{%- if system or tools %}
{{- '<|im_start|>system\\n' + system }}
{%- if tools %}
{{- '\\n\\n# Tools\\n\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' + tool | tojson }}{%- endfor %}
{{- '\\n</tools>\\n\\nHINT' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endif %}
"""
JSON_CALL = """
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson + '}\\n</tool_call>' }}"""
XML_CALL = """
{{- '<tool_call>\\n<function=' + call.function.name + '>\\n' }}
{%- for name, value in call.function.arguments | items %}
{{- '<parameter=' + name + '>\\n' + (value if value is string else value | tojson) + '\\n</parameter>\\n' }}
{%- endfor %}
{{- '</function>\\n</tool_call>' }}"""
TEMPLATES: dict[Kind, str] = {
    # Takes any order of roles; calls are JSON.
    "lenient": SYSTEM.replace("HINT", 'Calls: <tool_call>{"name": tool_call.name}</tool_call>')
    + TURNS.replace("CALL", JSON_CALL).replace("MIDDLE", "'<|im_start|>system\\n' + m.content + '<|im_end|>\\n'"),
    # Wants the system's message first, and only there; calls are tags.
    "strict": SYSTEM.replace("HINT", "Calls: <tool_call>\\n<function=example>\\n<parameter=one>")
    + TURNS.replace("CALL", XML_CALL).replace("MIDDLE", "raise_exception('System message must be at the beginning.')"),
}


def add_marks(source: Path, folder: Path) -> tuple[int, int]:
    """Write the tokenizer of the MLX folder `source` with the marks of calls and thoughts; its size, and the id that
    ends a turn."""
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in MARKS])
    tokenizer.save(str(folder / "tokenizer.json"))
    shutil.copyfile(source / "special_tokens_map.json", folder / "special_tokens_map.json")
    known = json.loads((source / "tokenizer_config.json").read_text())
    known = {name: value for name, value in known.items() if name not in ("chat_template", "added_tokens_decoder")}
    (folder / "tokenizer_config.json").write_text(json.dumps({**known, "model_max_length": CONTEXT}))
    return tokenizer.get_vocab_size(), tokenizer.token_to_id("<|im_end|>")


def write_template(folder: Path, kind: Kind) -> None:
    """Write the chat template of a kind."""
    (folder / "chat_template.jinja").write_text(TEMPLATES[kind])


def make_oracle(source: Path, folder: Path, kind: Kind) -> Path:
    """Write a model of this kind with the tokenizer of the MLX folder `source`; returns its folder."""
    import mlx.core as mx

    folder.mkdir(parents=True, exist_ok=True)
    vocab_size, _ = add_marks(source, folder)
    write_template(folder, kind)
    ends = json.loads((source / "config.json").read_text())
    config = {
        "model_type": "oracle",
        "architectures": ["OracleForCausalLM"],
        "vocab_size": vocab_size,
        "folder": str(folder),
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 1,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "bos_token_id": ends["bos_token_id"],
        "eos_token_id": ends["eos_token_id"],
    }
    weights = {"model.embed_tokens.weight": mx.zeros((vocab_size, 8))}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder


def answer_with(folder: Path, replies: Sequence[dict[str, Any]]) -> None:
    """Have an oracle react to what users say, not play scripts: each reply is a step with a regular expression `when`;
    the first that fits is played."""
    (folder / "replies.json").write_text(json.dumps(list(replies)))


def script(*steps: dict[str, Any]) -> str:
    """Steps as a prompt holds them."""
    return f"##S {json.dumps(list(steps))} ##E"


def call(function: str, **arguments: Any) -> dict[str, Any]:
    """A step that calls a function."""
    return {"call": function, "arguments": arguments}


def say(text: str) -> dict[str, Any]:
    """A step that says something."""
    return {"say": text}
