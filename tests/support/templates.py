"""Chat templates in the styles of well-known model families, shortened; and tokenizers that have them."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.workers.engine.prompt.templates.efforts import known_efforts
from mlx_server.workers.engine.prompt.templates.kinds import Conversation, end_marked
from mlx_server.workers.engine.prompt.templates.language import environment, variables

QWEN3 = """
{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif %}
{{- '# Tools\\n<tools>' }}
{%- for tool in tools %}{{ '\\n' + (tool | tojson) }}{% endfor %}
{{- '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}
{%- if message.reasoning_content %}{{ '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}
{{- message.content }}
{%- for tool_call in message.tool_calls or [] %}
{%- set call = tool_call.function %}
{{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
{{- call.arguments if call.arguments is string else call.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}
"""

LLAMA31 = """
{{- bos_token }}
{%- if not tools is defined %}{% set tools = none %}{% endif %}
{%- if tools is not none %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nEnvironment: ipython\\n' }}
{%- for t in tools %}{{ t | tojson(indent=4) }}{% endfor %}
{{- '<|eot_id|>' }}
{%- endif %}
{%- for message in messages %}
{%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%- elif 'tool_calls' in message %}
{%- if not message.tool_calls | length == 1 %}{{ raise_exception('only single tool-calls at once!') }}{% endif %}
{%- set call = message.tool_calls[0].function %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", "parameters": ' }}
{{- call.arguments | tojson }}{{ '}<|eot_id|>' }}
{%- else %}
{{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}{{ message.content | tojson }}{{ '<|eot_id|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
"""

MISTRAL = """
{{- bos_token }}
{%- if tools is defined and tools is not none %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}
{%- set ns = namespace(user=true) %}
{%- for message in messages %}
{%- if message.role == 'user' or (message.role == 'assistant' and not message.tool_calls) %}
{%- if (message.role == 'user') != ns.user %}{{ raise_exception('roles must alternate') }}{% endif %}
{%- set ns.user = not ns.user %}
{%- endif %}
{%- if message.role == 'user' %}[INST] {{ message.content }}[/INST]
{%- elif message.tool_calls is defined and message.tool_calls %}[TOOL_CALLS] [
{%- for call in message.tool_calls %}
{%- if call.id is not defined or call.id | length != 9 %}{{ raise_exception('ids must have length 9!') }}{% endif %}
{{- call.function | tojson }}, "id": "{{ call.id }}"
{%- endfor %}]{{ eos_token }}
{%- elif message.role == 'assistant' %} {{ message.content }}{{ eos_token }}
{%- elif message.role == 'tool' %}
{%- if message.tool_call_id | length != 9 %}{{ raise_exception('ids must have length 9!') }}{% endif -%}
[TOOL_RESULTS] {"content": {{ message.content }}, "call_id": "{{ message.tool_call_id }}"}[/TOOL_RESULTS]
{%- else %}{{ raise_exception('Only user, assistant and tool roles are supported') }}
{%- endif %}
{%- endfor %}
"""

GEMMA2 = """
{{- bos_token }}
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{%- set role = 'model' if message.role == 'assistant' else message.role %}
{{- '<start_of_turn>' + role + '\\n' + message.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""

LLAMA2 = """
{%- if messages[0].role == 'system' %}{% set rule = messages[0].content %}{% set turns = messages[1:] %}
{%- else %}{% set rule = none %}{% set turns = messages %}{% endif %}
{%- for message in turns %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{%- set before = '<<SYS>>\\n' + rule + '\\n<</SYS>>\\n\\n' if loop.first and rule else '' %}
{%- set said = before + message.content %}
{%- if message.role == 'user' %}{{ bos_token + '[INST] ' + said | trim + ' [/INST]' }}
{%- elif message.role == 'assistant' %}{{ ' ' + said | trim + ' ' + eos_token }}{% endif %}
{%- endfor %}
"""

PHI3 = """
{%- for message in messages %}
{%- if message.role in ('system', 'user', 'assistant') %}
{{- '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}
"""

QWEN35 = """
{%- set ns = namespace(asked=false) %}
{%- for message in messages %}{% if message.role == 'user' %}{% set ns.asked = true %}{% endif %}{% endfor %}
{%- if not ns.asked %}{{ raise_exception('No user query found in messages.') }}{% endif %}
{%- for message in messages %}
{%- if message.role == 'system' and not loop.first %}
{{- raise_exception('System message must be at the beginning.') }}
{%- endif %}
{{- '<|im_start|>' + message.role + '\\n' + message.content }}
{%- for call in message.tool_calls or [] %}
{{- '<function=' + call.function.name + '>' + (call.function.arguments | tojson) + '</function>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}
"""
"""Takes a system message in the first place only."""

DEEPSEEK = """
{%- set ns = namespace(rules='') %}
{%- for message in messages if message.role == 'system' %}{% set ns.rules = ns.rules + message.content %}{% endfor %}
{{- bos_token + ns.rules }}
{%- for message in messages %}
{%- if message.role == 'user' %}{{ '<User>' + message.content }}
{%- elif message.role == 'assistant' %}{{ '<Assistant>' + message.content + eos_token }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<Assistant>' }}{% endif %}
"""
"""Puts all that the system says before everything else."""

GPT_OSS = """
{%- if reasoning_effort is not defined %}{% set reasoning_effort = 'medium' %}{% endif %}
{{- '<|start|>system<|message|>Reasoning: ' + reasoning_effort + '<|end|>' }}
{%- if messages[0].role in ('developer', 'system') %}
{{- '<|start|>developer<|message|># Instructions\\n' + messages[0].content + '<|end|>' }}
{%- set turns = messages[1:] %}
{%- else %}{% set turns = messages %}{% endif %}
{%- for message in turns %}
{%- if message.role == 'user' %}{{ '<|start|>user<|message|>' + message.content + '<|end|>' }}
{%- elif message.role == 'assistant' and 'tool_calls' in message %}
{%- set future_final_message = namespace(found=false) %}
{%- for future_message in turns[loop.index:] %}
{%- if future_message.role == 'assistant' and 'tool_calls' not in future_message %}
{%- set future_final_message.found = true %}
{%- endif %}
{%- endfor %}
{%- if message.content and message.thinking %}{{ raise_exception('Cannot pass both content and thinking') }}
{%- elif (message.content or message.thinking) and not future_final_message.found %}
{{- '<|start|>assistant<|channel|>analysis<|message|>' + (message.content or message.thinking) + '<|end|>' }}
{%- endif %}
{{- '<|start|>assistant to=functions.' + message.tool_calls[0].function.name + '<|channel|>commentary<|message|>' }}
{{- message.tool_calls[0].function.arguments | tojson + '<|call|>' }}
{%- elif message.role == 'assistant' %}
{{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|end|>' }}
{%- elif message.role == 'tool' %}
{{- '<|start|>functions.' + message.name + ' to=assistant<|message|>' + message.content | tojson + '<|end|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}
"""
"""Drops a late system message without a word, and shows the first call of several. Beside a call it shows words or
reasoning, and neither once the assistant has spoken after it."""

GEMMA3N = """
{%- set rule = messages[0].content[0].text + '\\n\\n' if messages[0].role == 'system' else '' %}
{%- for message in messages if message.role != 'system' %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
{{- rule if loop.first else '' }}
{%- for part in message.content %}{% if part.type == 'text' %}{{ part.text | trim }}{% endif %}{% endfor %}
{{- '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""
"""Reads contents that are lists of parts."""

SMOLVLM = """
{%- for message in messages %}{{ message.role | capitalize + ':' }}
{%- for part in message.content %}{{ ' ' + part.text if part.type == 'text' else '<image>' }}{% endfor %}
{{- '<end_of_utterance>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}
"""
"""Reads contents that are lists of parts, for all roles."""

ITEMS = """
{%- for message in messages %}{{ message.role }}: {{ message.content }}
{%- for call in message.tool_calls or [] %}<function={{ call.function.name }}>
{%- for key, value in call.function.arguments | items %}<parameter={{ key }}>{{ value }}</parameter>{% endfor %}
{%- endfor %}
{% endfor %}
"""
"""Takes arguments apart, as Qwen3-Coder's and GLM's do."""

CODED = """
{%- for message in messages %}{{ message.role }}: {{ message.content }}
{%- for call in message.tool_calls or [] %}<function={{ call.function.name }}>
{{- call.function.arguments['path'] | upper if 'raw' not in call.function.arguments else raise_exception('no path') }}
{%- endfor %}
{% endfor %}
"""
"""Has needs of its own: an argument `path`, and no `raw`."""

STRINGS = """
{%- for message in messages %}{{ '<' + message.role + '>' + message.content }}
{%- for call in message.tool_calls or [] %}
{{- call.function.name + '\\n```json\\n' + call.function.arguments + '\\n```' }}
{%- endfor %}
{% endfor %}
"""
"""Adds arguments to strings, as DeepSeek-V3's does."""

R1_DISTILL = """
{{- bos_token }}
{%- for message in messages %}
{%- if message['role'] == 'system' %}{{ message['content'] }}{% endif %}
{%- if message['role'] == 'user' %}{{ '<User>' + message['content'] }}{% endif %}
{%- if message['role'] == 'assistant' and message['content'] is none %}
{{- '<Assistant>' }}
{%- for call in message['tool_calls'] %}
{{- '<call>' + call['type'] + '<sep>' + call['function']['name'] + '\\n```json\\n' + call['function']['arguments'] }}
{{- '\\n```</call>' }}
{%- endfor %}
{{- eos_token }}
{%- endif %}
{%- if message['role'] == 'assistant' and message['content'] is not none %}
{{- '<Assistant>' + message['content'].split('</think>')[-1] + eos_token }}
{%- endif %}
{%- if message['role'] == 'tool' %}{{ '<output>' + message['content'] + '</output>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<Assistant><think>\\n' }}{% endif %}
"""
"""Shows calls only in turns whose content is none."""

THINKS_ALWAYS = "{{ messages[-1].content }}{% if add_generation_prompt %}<think>\n{% endif %}"


class Jinja:
    """A model's template without a model."""

    adds_special_tokens = opaque = False

    def __init__(self, text: str, *, thinks: bool = False) -> None:
        self._text = text
        self._template = environment().from_string(text)
        self._thinks = thinks
        self.renders = 0

    def variables(self) -> frozenset[str]:
        return variables(self._text)

    def thinks(self) -> bool:
        return self._thinks

    def efforts(self) -> frozenset[str]:
        return known_efforts([self._text])

    def render(self, conversation: Conversation) -> str:
        self.renders += 1
        try:
            return self._template.render(
                messages=end_marked(conversation),
                tools=conversation.tools,
                add_generation_prompt=conversation.ends_open,
                bos_token="<s>",
                eos_token="</s>",
                **conversation.arguments,
            )
        except (TemplateError, TypeError) as error:
            raise InvalidRequest(str(error), "messages") from None


@functools.cache
def _read(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def with_template(folder: Path, template: str | None, added_tokens: tuple[str, ...] = ()) -> Any:
    """mlx-lm's tokenizer of a model folder with another chat template, and with more tokens."""
    from mlx_lm.tokenizer_utils import TokenizerWrapper

    tokenizer = copy.deepcopy(_read(folder))
    tokenizer.chat_template = template
    tokenizer.add_tokens(list(added_tokens), special_tokens=True)
    return TokenizerWrapper(tokenizer)
