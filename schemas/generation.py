"""Inside types: what may be queued. Everything here has been validated as far as that needs no tokenizer."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation; `content` is plain text."""

    role: str
    content: str
    name: str | None = None


class ChatPrompt(msgspec.Struct, frozen=True, tag=True):
    """A conversation that the model's own chat template renders."""

    messages: tuple[Message, ...]


class TextPrompt(msgspec.Struct, frozen=True, tag=True):
    """Text that is tokenised as it stands."""

    text: str


class TokenPrompt(msgspec.Struct, frozen=True, tag=True):
    """Token ids; the worker checks them against the vocabulary."""

    ids: tuple[int, ...]


Prompt = ChatPrompt | TextPrompt | TokenPrompt


class Sampling(msgspec.Struct, frozen=True):
    """How the next token is chosen. `None` means the model's own default, else OpenAI's.

    The penalties follow OpenAI's definition (counted over generated tokens only); `repetition_penalty` follows
    the field's (multiplicative, over the last `repetition_context_size` tokens, prompt included).
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    repetition_penalty: float | None = None
    repetition_context_size: int = 20
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = {}


class GenerationRequest(msgspec.Struct, frozen=True):
    """One ticket's work: a sequence per prompt, all with the same sampling and limits."""

    prompts: tuple[Prompt, ...]
    max_tokens: int
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows of a batch this request needs in all; they may run in turns."""
        return len(self.prompts)
