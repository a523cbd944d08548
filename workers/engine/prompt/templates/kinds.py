"""What may render a conversation: the model's own template, a client's, or prefixes for each role."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.workers.engine.prompt.templates.content import joined
from mlx_server.workers.engine.prompt.templates.efforts import known_efforts
from mlx_server.workers.engine.prompt.templates.language import variables
from mlx_server.workers.engine.prompt.templates.sandbox import Sandbox, TemplateFailed, TemplateRefused, TemplateStopped

CHATML = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""The template of a model that has none and is asked to use a default one."""

ROLE_KEYS = ("system_prompt", "system", "user", "assistant", "stop")

END_MARK = "THE_LAST_MESSAGE_GOES_ON_HERE "
"""Stands at the end of a message that is to be continued, to be found again; the space shows whether it is trimmed."""


@dataclass(frozen=True)
class Conversation:
    """What a template gets to see: messages and tools as OpenAI's dicts, and variables of its own."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    continues_last: bool = False
    opens_answer: bool = True

    @property
    def ends_open(self) -> bool:
        """The assistant's turn is begun at the end."""
        return self.opens_answer and not self.continues_last


class ChatTemplate(Protocol):
    """Renders conversations."""

    adds_special_tokens: bool
    """Its text is tokenised as any text is: it writes no special tokens itself."""

    opaque: bool
    """It is a function that takes any variable and refuses those it does not know only when it runs."""

    def variables(self) -> frozenset[str] | None:
        """All names it reads; None where it is opaque."""

    def thinks(self) -> bool:
        """It has a place for reasoning."""

    def efforts(self) -> frozenset[str]:
        """The degrees of reasoning that it tells apart; none where that can't be told."""

    def render(self, conversation: Conversation) -> str:
        """The prompt. Raises InvalidRequest."""


class OwnTemplate:
    """The model's own (or its operator's) template; `text` takes its place."""

    adds_special_tokens = False

    def __init__(self, tokenizer: Any, text: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._replaced = {} if text is None else {"chat_template": text}
        self._texts = [text] if text is not None else own_texts(tokenizer)
        function = tokenizer._chat_template or type(tokenizer._tokenizer).apply_chat_template
        self._parameters = inspect.signature(function).parameters.values()
        self.opaque = not self._texts and any(each.kind is each.VAR_KEYWORD for each in self._parameters)

    def variables(self) -> frozenset[str] | None:
        """The variables of a Jinja template, or the parameters of a function. Raises TemplateSyntaxError."""
        return None if self.opaque else self._read

    @cached_property
    def _read(self) -> frozenset[str]:
        if self._texts:
            return frozenset().union(*map(variables, self._texts))
        return frozenset(each.name for each in self._parameters)

    def thinks(self) -> bool:
        """Whether the model has marks of reasoning and the template, where it can be read, writes them."""
        marks = thinking_marks(self._tokenizer)
        return bool(marks) and (not self._texts or any(mark in text for mark in marks for text in self._texts))

    def efforts(self) -> frozenset[str]:
        """The efforts that its text names."""
        return known_efforts(self._texts)

    def render(self, conversation: Conversation) -> str:
        """The prompt. Raises InvalidRequest."""
        messages = end_marked(conversation)
        try:
            text = self._tokenizer.apply_chat_template(
                messages,
                tools=conversation.tools,
                add_generation_prompt=conversation.ends_open,
                tokenize=False,
                **self._replaced,
                **conversation.arguments,
            )
        except Exception as error:  # noqa: BLE001 - a template is a model's own program; it refuses with any exception
            reason = str(error) or type(error).__name__
            raise InvalidRequest(f"The model's chat template refuses these messages: {reason}", "messages") from None
        return cut_at_mark(str(text), conversation, "messages")


class ClientTemplate:
    """A template out of a request, rendered in the sandbox. All that one of these does shares one time limit."""

    adds_special_tokens = False
    opaque = False

    def __init__(self, text: str, sandbox: Sandbox, tokenizer: Any) -> None:
        self._text = text
        self._sandbox = sandbox
        self._tokenizer = tokenizer
        self._deadline = sandbox.deadline()

    def variables(self) -> frozenset[str] | None:
        """The variables that it reads. Raises InvalidRequest, also for a text that is no template."""
        try:
            return self._sandbox.variables(self._text, self._deadline)
        except (TemplateFailed, TemplateStopped) as error:
            raise InvalidRequest(f"`chat_template` {error}", "chat_template") from None

    def thinks(self) -> bool:
        """Whether it writes the model's marks of reasoning."""
        return any(mark in self._text for mark in thinking_marks(self._tokenizer))

    def efforts(self) -> frozenset[str]:
        """The efforts that its text names."""
        return known_efforts([self._text])

    def render(self, conversation: Conversation) -> str:
        """The prompt. Raises InvalidRequest."""
        context = {
            "documents": None,
            "enable_thinking": bool(self._tokenizer.has_thinking),
            **{name: str(token) for name, token in self._tokenizer.special_tokens_map.items()},
            **conversation.arguments,
            "messages": end_marked(conversation),
            "tools": conversation.tools,
            "add_generation_prompt": conversation.ends_open,
        }
        try:
            text = self._sandbox.render(self._text, context, self._deadline)
        except TemplateRefused as error:
            raise InvalidRequest(f"`chat_template` refuses these messages: {error}", "messages") from None
        except TemplateFailed as error:
            raise InvalidRequest(f"`chat_template` fails: {error}", "chat_template") from None
        except TemplateStopped as error:
            raise InvalidRequest(f"`chat_template` {error}", "chat_template") from None
        return cut_at_mark(text, conversation, "chat_template")


class RolePrefixes:
    """Prefixes for each role, as mlx-lm's `role_mapping` has them; `stop` stands after each turn.

    `system_prompt` stands before the first turn, once.
    """

    adds_special_tokens = True
    opaque = False

    def __init__(self, prefixes: Mapping[str, str]) -> None:
        """Raises InvalidRequest for a key that is none of ROLE_KEYS."""
        for key in prefixes:
            if key not in ROLE_KEYS:
                message = f"`role_mapping.{key}` is not known; allowed are {', '.join(ROLE_KEYS)}."
                raise InvalidRequest(message, f"role_mapping.{key}")
        self._prefixes = prefixes

    def variables(self) -> frozenset[str]:
        """None at all."""
        return frozenset()

    def thinks(self) -> bool:
        """It does not."""
        return False

    def efforts(self) -> frozenset[str]:
        """None at all."""
        return frozenset()

    def render(self, conversation: Conversation) -> str:
        """The prompt, without white space at its end."""
        stop = self._prefixes.get("stop", "")
        parts = [f"{self._prefixes['system_prompt']}{stop}"] if "system_prompt" in self._prefixes else []
        parts += [f"{self._prefixes.get(m['role'], '')}{m['content']}{stop}" for m in conversation.messages]
        text = "".join(parts)
        if conversation.continues_last:
            return text.removesuffix(stop)
        return (text + (self._prefixes.get("assistant", "") if conversation.ends_open else "")).rstrip()


def own_texts(tokenizer: Any) -> list[str]:
    """The Jinja templates of a tokenizer, with tools and without; none where a function does the rendering."""
    renders = type(tokenizer._tokenizer).apply_chat_template
    if tokenizer._chat_template is not None or renders is not PreTrainedTokenizerBase.apply_chat_template:
        return []
    some_tool: dict[str, Any] = {}
    return list(dict.fromkeys(tokenizer.get_chat_template(None, tools=tools) for tools in (None, [some_tool])))


def thinking_marks(tokenizer: Any) -> tuple[str, ...]:
    """What stands round this model's reasoning; nothing if it has none."""
    return (tokenizer.think_start, tokenizer.think_end) if tokenizer.has_thinking else ()


def end_marked(conversation: Conversation) -> list[dict[str, Any]]:
    """The messages, with END_MARK at the end if the last one goes on."""
    if not conversation.continues_last:
        return conversation.messages
    *others, last = conversation.messages
    return [*others, {**last, "content": joined(last["content"] or "", END_MARK)}]


def cut_at_mark(text: str, conversation: Conversation, field_name: str) -> str:
    """The text up to END_MARK, if there is to be one. Raises InvalidRequest where the template lost it."""
    if not conversation.continues_last:
        return text
    before, found, after = text.rpartition(END_MARK.strip())
    if not found:
        message = "The chat template does not show the end of the last message, so that can't be continued."
        raise InvalidRequest(f"`{field_name}`: {message}", field_name)
    return before if after.startswith(" ") else before.rstrip()
