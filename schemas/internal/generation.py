"""Inside types: what may be queued. Everything here has been validated as far as that needs no tokenizer."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class FunctionCall(msgspec.Struct, frozen=True):
    """A call that an earlier answer made; `arguments` is what the client sent, JSON or not."""

    id: str
    name: str
    arguments: str


MediaKind = Literal["image", "audio", "video"]


class Remote(msgspec.Struct, frozen=True, tag=True):
    """Where a file is: an http, https, file or data URL, or `file_id:` and the id of one that its client keeps
    here. The front end gets its bytes: no worker ever sees one."""

    url: str


class Media(msgspec.Struct, frozen=True):
    """A picture, a sound or a film in a conversation: the bytes of its file, as they came.

    It stands before the character `at` of its message's text. `param` names it in a refusal. `low` detail asks for a
    picture of at most 512 by 512 pixels. `stray`: a tool gave it whose call is not there, so that the user shows it.
    """

    kind: MediaKind
    source: bytes | Remote
    at: int
    param: str
    detail: Literal["auto", "low", "high"] = "auto"
    stray: bool = False


class Document(msgspec.Struct, frozen=True):
    """A file whose text is a part of its message's, before the character `at`. The front end puts it there: no worker
    ever sees one. `param` names it in a refusal, `stray` is as of media."""

    source: bytes | Remote
    at: int
    param: str
    stray: bool = False


NO_CALL = "The result of a tool's call that is not in this conversation:"
"""What the user says before such a result."""


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation; `content` is plain text, in which `media` have their places, in order, and so have
    `documents`. `marks` are its characters before which a prompt ends that will be used again, as the client thinks."""

    role: str
    content: str
    name: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[FunctionCall, ...] = ()
    tool_call_id: str | None = None
    media: tuple[Media, ...] = ()
    documents: tuple[Document, ...] = ()
    marks: tuple[int, ...] = ()

    def of_tool(self, file: Media | Document) -> bool:
        """Whether a tool gave this file of it."""
        return self.role == "tool" or file.stray


class Grammar(msgspec.Struct, frozen=True):
    """What the answer's text must be. `text` is in the language of `kind`; `param` names its field in a refusal.

    A `choice` is a JSON list of strings. What of a schema can't be enforced is refused if a valid document is
    `guaranteed`, else it is left out and told.
    """

    kind: Literal["json_schema", "regex", "lark", "gbnf", "choice"]
    text: str
    param: str
    guaranteed: bool = True


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call; `parameters` is a JSON schema of an object, None for no arguments.

    `text`: its one argument `input` is a text that this grammar allows, as a client's custom tool has it. `param` names
    its schema in a refusal.
    """

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool = False
    text: Grammar | None = None
    param: str = ""


class Template(msgspec.Struct, frozen=True):
    """How a conversation becomes text. With neither `text` nor `roles` the model's own template renders it.

    `text` is a client's Jinja template. `roles` maps roles to what stands before their turns, as mlx-lm's
    `role_mapping` does, and takes the template's place. `arguments` are variables of the template. `effort` is how
    much reasoning is asked for, where the template knows such a thing. `thinking` is whether the model shall reason
    at all: None leaves it to the template. `effort_param` is what the client calls `effort`, to name it where it
    changes nothing.
    """

    text: str | None = None
    roles: dict[str, str] | None = None
    use_default: bool | None = None
    arguments: dict[str, Any] = {}
    effort: str | None = None
    thinking: bool | None = None
    effort_param: str = "reasoning_effort"


class ChatPrompt(msgspec.Struct, frozen=True, tag=True):
    """A conversation that a chat template renders.

    `continues_last`: the last message is an assistant's and is gone on with, not answered. `opens_answer`: otherwise
    the assistant's turn is begun at the end. `param` is what the client's API calls the messages. `drops_oldest`: if
    the conversation is longer than the context, its oldest turns are left out.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    template: Template = Template()
    continues_last: bool = False
    opens_answer: bool = True
    param: str = "messages"
    drops_oldest: bool = False


class TextPrompt(msgspec.Struct, frozen=True, tag=True):
    """Text that is tokenised as it stands; with a `suffix` the answer stands between the two.

    `special`: the tokenizer adds the tokens that begin and end its texts, if it has such.
    """

    text: str
    suffix: str | None = None
    special: bool = True


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


OPENAI_DEFAULTS = Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0)


def in_force(given: Sampling, model: Sampling) -> Sampling:
    """What the client asked for; where it is silent what the model's authors recommend, else what OpenAI does."""
    filled: dict[str, Any] = {"logit_bias": {**model.logit_bias, **given.logit_bias}}
    for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty"):
        values = (getattr(sampling, name) for sampling in (given, model, OPENAI_DEFAULTS))
        filled[name] = next((value for value in values if value is not None), None)
    return msgspec.structs.replace(given, **filled)


class Limits(msgspec.Struct, frozen=True):
    """When a sequence ends, and what its text holds. `stop` strings are looked for in the visible answer only."""

    stop: tuple[str, ...] = ()
    include_stop: bool = False
    stop_token_ids: tuple[int, ...] = ()
    min_tokens: int = 0
    ignore_eos: bool = False
    skip_special_tokens: bool = True


class ToolUse(msgspec.Struct, frozen=True):
    """Which of the prompt's tools may or must be called: `auto`, `none`, `required`, or the one that is named."""

    choice: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None
    parallel: bool = True


Speculate = Literal["off", "ngram", "auto"]
"""Whether tokens are guessed from a sequence's own text and checked several in a step: never, whenever there is a
guess, or where that is faster as measured."""


class Draft(msgspec.Struct, frozen=True):
    """What a request says of draft models: which one proposes (None: the server's own, "none": none), and how many
    `tokens` at a time, whatever they cost (None: as many as pay)."""

    model: str | None = None
    tokens: int | None = None


NO_LIMIT = 1 << 31
"""The `max_tokens` of an answer that may be as long as the context has room for; more than any client can ask for."""


class GenerationRequest(msgspec.Struct, frozen=True, tag=True):
    """One ticket's work: `n` choices for each prompt, all with the same sampling and limits.

    A sequence's index is `prompt * n + choice`. `logprobs` is how many alternatives are reported for each token,
    None for no report at all; `prompt_logprobs` is the same for the tokens of the prompts. `token_ids` asks for the
    ids of all tokens. `echo` answers with the prompt in front. `thinking_budget` bounds the tokens of the
    reasoning, and `budget_param` is what the client calls it. `adapter` names a folder of LoRA weights.
    `speculate`: how tokens are guessed, None for the server's own way; `draft`: what a draft model has to do with
    it, None for what the server does by default; `prediction` is what the client thinks that the answer will be.
    `announce` asks for a `Started` event; with `progress` its client is told how far its prompt is. One that
    `yields` may be stopped at any moment for others, and goes on later. `tenant` is whose request it is: what is
    kept of one tenant's prompts is not used for another's, and of one tenant's only what has the same `salt`.
    `use_cache`: what is kept of earlier prompts may be used for this one, and this one may be kept. `conversation`
    is what the client calls the conversation that this belongs to. `ignored` are the paths of its fields that are
    known and change nothing here: the answer tells them.
    """

    prompts: tuple[Prompt, ...]
    max_tokens: int
    n: int = 1
    sampling: Sampling = Sampling()
    limits: Limits = Limits()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    token_ids: bool = False
    echo: bool = False
    grammar: Grammar | None = None
    tool_use: ToolUse = ToolUse()
    thinking_budget: int | None = None
    budget_param: str = "thinking_budget"
    adapter: str | None = None
    draft: Draft | None = None
    speculate: Speculate | None = None
    prediction: str = ""
    announce: bool = False
    progress: bool = False
    yields: bool = False
    tenant: str = ""
    salt: str = ""
    use_cache: bool = True
    conversation: str = ""
    ignored: tuple[str, ...] = ()

    @property
    def guessing(self) -> tuple[str, ...]:
        """The paths of what it says of guesses, which are of no use where there are none."""
        asked = self.speculate not in (None, "off")
        return (*(("speculate",) if asked else ()), *(("prediction",) if self.prediction else ()))

    @property
    def rows(self) -> int:
        """How many rows of a batch this request needs in all; they may run in turns."""
        return len(self.prompts) * self.n
