"""`/tokenize` and `/detokenize`, as vLLM has them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, Template, TextPrompt
from mlx_server.schemas.internal.messages import TokensOf
from mlx_server.schemas.openai.chat import MAX_MESSAGES, MAX_TEMPLATE_CHARS, ChatMessage, to_messages
from mlx_server.schemas.openai.common import TokenId
from mlx_server.schemas.openai.tools import ToolSpec, to_tools

MAX_IDS = 1 << 20

# Parameters that are known and not served, with the values that change nothing (null never does).
HARMLESS: dict[str, tuple[Any, ...]] = {"mm_processor_kwargs": ({},), "media_io_kwargs": ({},)}

OF_MESSAGES = (
    "add_generation_prompt",
    "continue_final_message",
    "chat_template",
    "chat_template_kwargs",
    "tools",
)


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Either a `prompt` or `messages`, which the chat template renders."""

    model: Annotated[str, Meta(max_length=256)] | None = None
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Meta(max_length=MAX_MESSAGES)] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template: Annotated[str, Meta(min_length=1, max_length=MAX_TEMPLATE_CHARS)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    tools: list[ToolSpec] | None = None

    def question(self) -> TokensOf:
        """The inside type. Raises InvalidRequest."""
        if (self.prompt is None) == (self.messages is None):
            raise InvalidRequest("Either `prompt` or `messages` is needed, and not both.", "prompt")
        prompt = self._text() if self.messages is None else self._chat(self.messages)
        return TokensOf(prompt, want="pieces" if self.return_token_strs else "ids")

    def _text(self) -> TextPrompt:
        for field in OF_MESSAGES:
            if getattr(self, field) is not None:
                raise InvalidRequest(f"`{field}` is only allowed with `messages`.", field)
        return TextPrompt(self.prompt or "", special=self.add_special_tokens is not False)

    def _chat(self, given: list[ChatMessage]) -> ChatPrompt:
        if not given:
            raise InvalidRequest("`messages` is empty: at least one message is needed.", "messages")
        if self.add_special_tokens:
            raise InvalidRequest(
                "`add_special_tokens`: the chat template says which tokens there are; leave it out.",
                "add_special_tokens",
            )
        messages = to_messages(given)
        continues = bool(self.continue_final_message)
        if continues and (self.add_generation_prompt or messages[-1].role != "assistant"):
            raise InvalidRequest(
                "`continue_final_message` needs an assistant's last message, without `add_generation_prompt`.",
                "continue_final_message",
            )
        return ChatPrompt(
            messages,
            to_tools(self.tools),
            Template(self.chat_template, arguments=self.chat_template_kwargs or {}),
            continues,
            opens_answer=self.add_generation_prompt is not False,
        )


class TokenizeAnswer(msgspec.Struct, frozen=True):
    """`max_model_len` is the context in tokens, null where the model does not say; `token_strs` only if asked for."""

    count: int
    max_model_len: int | None
    tokens: tuple[int, ...]
    token_strs: tuple[str, ...] | None = None


class DetokenizeRequest(msgspec.Struct, frozen=True):
    """Token ids."""

    tokens: Annotated[tuple[TokenId, ...], Meta(max_length=MAX_IDS)]
    model: Annotated[str, Meta(max_length=256)] | None = None


class DetokenizeAnswer(msgspec.Struct, frozen=True):
    """Their text."""

    prompt: str


tokenize_decoder = msgspec.json.Decoder(TokenizeRequest)
detokenize_decoder = msgspec.json.Decoder(DetokenizeRequest)
