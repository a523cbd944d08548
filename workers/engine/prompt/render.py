"""A conversation becomes token ids: which template renders it, what that gets to see. Tokenizer's thread only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import TemplateSyntaxError

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, Media, Message, Template, ToolUse
from mlx_server.workers.engine.prompt.media_support import MediaSupport
from mlx_server.workers.engine.prompt.segments import LIMIT_BYTES, SegmentedTokenizer
from mlx_server.workers.engine.prompt.templates.arguments import KWARGS, Arguments, Settled
from mlx_server.workers.engine.prompt.templates.content import ContentForm
from mlx_server.workers.engine.prompt.templates.conversation import (
    Stray,
    calls_as_text,
    linked,
    media_after_results,
    parsed_arguments,
    to_dicts,
)
from mlx_server.workers.engine.prompt.templates.folding import NONE_TAKEN, fold
from mlx_server.workers.engine.prompt.templates.habits import Habits
from mlx_server.workers.engine.prompt.templates.kinds import (
    CHATML,
    ChatTemplate,
    ClientTemplate,
    Conversation,
    OwnTemplate,
    RolePrefixes,
)
from mlx_server.workers.engine.prompt.templates.sandbox import Sandbox
from mlx_server.workers.engine.prompt.templates.tools import Knowledge, describe, openai_tools, with_description
from mlx_server.workers.errors import one_line

if TYPE_CHECKING:
    from mlx_server.workers.engine.vision.inputs import MediaInputs

NO_TEMPLATE = (
    "This model has no chat template: use /v1/completions, send a `chat_template`, or ask for a default one with"
    " `use_default_chat_template` (for all requests: start the server with --use-default-chat-template)."
)


@dataclass(frozen=True)
class TemplateDefaults:
    """What the server's flags say about templates; a request says it better."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    use_default: bool = False


@dataclass(frozen=True)
class Rendered:
    """A prompt's token ids. `described_tools`: calls are asked for as JSON inside `<tool_call>` marks (Hermes' way),
    because the template knows no tools; else a call looks as the model's own template has it. `one_call`: the template
    has no place for a second one in a turn. `media` is what its pictures became. `ignored` are the paths of fields that
    change nothing with this template."""

    tokens: list[int]
    described_tools: bool = False
    one_call: bool = False
    media: MediaInputs | None = None
    ignored: tuple[str, ...] = ()


class ChatRenderer:
    """Renders conversations with a model's tokenizer.

    Whose template: the request's `template.text` or `template.roles`; else the model's own (or its operator's); for a
    model that has none a ChatML one, if the request or the server asks for the default.
    """

    def __init__(
        self,
        tokenizer: Any,
        check_length: Callable[[int, str], None],
        defaults: TemplateDefaults | None = None,
        sandbox: Sandbox | None = None,
        media: MediaSupport | None = None,
        kept_bytes: int = LIMIT_BYTES,
    ) -> None:
        """`check_length(characters, field)` raises InvalidRequest for what can't fit into the context. `media` reads
        pictures, for a model that sees. Up to `kept_bytes` of texts and their ids are kept."""
        self._tokenizer = tokenizer
        self._segments = SegmentedTokenizer(tokenizer, kept_bytes)
        self._check_length = check_length
        self._defaults = defaults or TemplateDefaults()
        self._sandbox = sandbox or Sandbox()
        self._own = OwnTemplate(tokenizer) if tokenizer.has_chat_template else None
        self._default = OwnTemplate(tokenizer, CHATML)
        self._media = media
        self._own_habits = None if self._own is None else self._habits_of(self._own, self._defaults.arguments)

    @property
    def knows_tools(self) -> bool:
        """The model's own template tells the model which tools there are."""
        return self._own_habits is not None and self._own_habits.knows.tools

    @cached_property
    def trouble(self) -> str:
        """Why not even a plain question can be rendered without a client's template; empty where it can."""
        try:
            self.render(ChatPrompt((Message("user", "Hello."),)), ToolUse("none"))
        except InvalidRequest as error:
            return one_line(error)
        return ""

    @property
    def takes_chats(self) -> bool:
        """Conversations are taken without a template of the request's own."""
        return self._own is not None or self._defaults.use_default

    def check_defaults(self) -> None:
        """Raises InvalidRequest for a template that is none, and for server-wide arguments it does not know."""
        template = self._own or (self._default if self._defaults.use_default else None)
        if template is None:
            return
        try:
            takes = Arguments(template, self._tokenizer.special_tokens_map)
        except TemplateSyntaxError as error:
            raise InvalidRequest(f"the chat template is none: line {error.lineno}: {error.message}") from None
        takes.check(self._defaults.arguments, "--chat-template-args")

    def render(self, prompt: ChatPrompt, tool_use: ToolUse, owner: str | None = None) -> Rendered:
        """The prompt's token ids, quicker if `owner` has sent its beginning before. Raises InvalidRequest."""
        self._check_media(media_of(prompt.messages))
        template = self._template(prompt.template)
        if isinstance(template, RolePrefixes):
            check_no_media(prompt.messages)
        settled = self._settled(template, prompt.template)
        habits = self._habits(template, settled.arguments)
        tools = openai_tools(prompt.tools) if prompt.tools and tool_use.choice != "none" else None
        text, media = render_text(habits, prompt, tools, settled.arguments)
        self._check_length(len(text), "messages")
        tokens, inputs = self._encode(text, template, media, owner)
        described = tools is not None and not habits.knows.tools
        one_call = tools is not None and habits.knows.calls and not habits.turns.several_calls
        return Rendered(tokens, described, one_call, inputs, settled.ignored)

    def close(self) -> None:
        """End the process that renders clients' templates. Idempotent; from any thread."""
        self._sandbox.close()

    def _template(self, asked: Template) -> ChatTemplate:
        if asked.text is not None:
            return ClientTemplate(asked.text, self._sandbox, self._tokenizer)
        if asked.roles is not None:
            return RolePrefixes(asked.roles)
        if self._own is not None:
            return self._own
        if self._defaults.use_default if asked.use_default is None else asked.use_default:
            return self._default
        raise InvalidRequest(NO_TEMPLATE, "messages")

    def _settled(self, template: ChatTemplate, asked: Template) -> Settled:
        try:
            takes = Arguments(template, self._tokenizer.special_tokens_map)
        except TemplateSyntaxError as error:
            where = f"line {error.lineno}: {error.message}"
            raise InvalidRequest(f"The model's chat template is broken: {where}", "messages") from None
        return takes.settle(asked, self._defaults.arguments)

    def _habits(self, template: ChatTemplate, arguments: Mapping[str, Any]) -> Habits:
        own = self._own_habits
        return own if own is not None and template is own.template else self._habits_of(template, arguments)

    def _habits_of(self, template: ChatTemplate, arguments: Mapping[str, Any]) -> Habits:
        """A client's template takes media as OpenAI's API has them."""
        if self._media is None or isinstance(template, ClientTemplate):
            return Habits(template, arguments)
        return Habits(template, arguments, self._media.marked)

    def _check_media(self, media: Sequence[Media]) -> None:
        if self._media is not None:
            self._media.check(media)
        for one in media[:1] if self._media is None else ():
            raise InvalidRequest(f"`{one.param}`: this model takes no {one.kind} input.", one.param)

    def _encode(
        self, text: str, template: ChatTemplate, media: Sequence[Media], owner: str | None
    ) -> tuple[list[int], MediaInputs | None]:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidRequest("The prompt has lone surrogates, which are no characters.", "messages") from None
        special = template.adds_special_tokens
        if self._media is None:
            return self._segments.encode(text, owner, special=special), None
        # Processors of pictures' models leave their first token to the tokenizer, as transformers' own do.
        first = self._tokenizer.bos_token
        special = special or first is None or not text.startswith(first)
        if media:
            return self._media.read(text, media, special=special, param="messages")
        return self._segments.encode(text, owner, special=special), None


def check_no_media(messages: Sequence[Message]) -> None:
    """Raises InvalidRequest for what prefixes of roles can't show."""
    for one in media_of(messages):
        raise InvalidRequest(f"`{one.param}`: prefixes for roles have no place for it.", one.param)


def render_text(
    habits: Habits, prompt: ChatPrompt, tools: list[dict[str, Any]] | None, arguments: Mapping[str, Any]
) -> tuple[str, list[Media]]:
    """The prompt, and its media in their order. Turns are given as they stand where the template takes that, else as
    `fold` makes them. Raises InvalidRequest."""
    knows = habits.knows if tools or any(map(about_tools, prompt.messages)) else Knowledge()
    messages = given_messages(habits, prompt.messages, tools, knows)
    # Words beside a call are dropped in silence by who has no place for them: that is always asked.
    mixed = any(message.tool_calls and message.content for message in messages)
    plain = not mixed and fold(messages, NONE_TAKEN) == messages
    folded = messages if plain else fold(messages, habits.turns)
    rendering = Rendering(habits.template, prompt, tools if knows.tools else None, arguments, knows, habits.form)
    try:
        return rendering.render(folded), media_of(folded)
    except InvalidRequest:
        if plain or (strict := fold(messages, replace(NONE_TAKEN, system=habits.turns.system))) == folded:
            raise
        try:
            return rendering.render(strict), media_of(strict)
        except InvalidRequest:
            pass
        raise


def about_tools(message: Message) -> bool:
    """It has a call, or a result."""
    return bool(message.tool_calls) or message.role == "tool"


def given_messages(
    habits: Habits, messages: Sequence[Message], tools: list[dict[str, Any]] | None, knows: Knowledge
) -> list[Message]:
    """The messages with what the template has no place for said in words, or shown elsewhere."""
    given = calls_as_text(linked(messages), knows)
    if any(message.media and message.role == "tool" for message in given):
        given = media_after_results(given, habits.media_in_results)
    return with_description(given, describe(tools)) if tools and not knows.tools else given


def media_of(messages: Sequence[Message]) -> list[Media]:
    """What they show, in order."""
    return [one for message in messages for one in message.media]


@dataclass(frozen=True)
class Rendering:
    """Renders turns as one request wants them, with arguments of calls in a form that the template takes."""

    template: ChatTemplate
    prompt: ChatPrompt
    tools: list[dict[str, Any]] | None
    arguments: Mapping[str, Any]
    knows: Knowledge
    form: ContentForm

    def render(self, messages: list[Message]) -> str:
        """The prompt. Raises InvalidRequest."""
        try:
            return self._rendered(messages, "kept")
        except InvalidRequest as error:
            if self.template.opaque and self.arguments:
                blame_arguments(self.template, self._conversation(messages, "kept"), error)
            stray = first_stray(self.prompt.messages)
            if stray is None or not self.knows.calls:
                raise
            return self._wrapped(messages, stray, error)

    def _wrapped(self, messages: list[Message], stray: int, error: InvalidRequest) -> str:
        """The prompt with arguments that are no object put into one. Raises InvalidRequest, for them if it is due to
        them, else `error`."""
        try:
            return self._rendered(messages, "wrapped")
        except InvalidRequest:
            pass
        try:
            self._rendered(messages, "left out")
        except InvalidRequest:
            raise error from None
        where = f"messages[{stray}].tool_calls"
        message = f"`{where}`: the chat template takes only arguments that are a JSON object."
        raise InvalidRequest(message, where) from None

    def _rendered(self, messages: list[Message], stray: Stray) -> str:
        return self.template.render(self._conversation(messages, stray))

    def _conversation(self, messages: list[Message], stray: Stray) -> Conversation:
        if self.tools and self.knows.tools_by_system and messages[0].role != "system":
            messages = [Message("system", ""), *messages]
        given = to_dicts(messages, self.knows, stray, self.form)
        return Conversation(given, self.tools, self.arguments, self.prompt.continues_last, self.prompt.opens_answer)


def blame_arguments(template: ChatTemplate, conversation: Conversation, error: InvalidRequest) -> None:
    """Raise InvalidRequest for the template's arguments if it works without them."""
    try:
        template.render(replace(conversation, arguments={}))
    except InvalidRequest:
        return
    raise InvalidRequest(f"`{KWARGS}`: {error.message}", KWARGS) from None


def first_stray(messages: Sequence[Message]) -> int | None:
    """The first message with a call whose arguments are no JSON object."""
    for i, message in enumerate(messages):
        if any(parsed_arguments(call.arguments) is None for call in message.tool_calls):
            return i
    return None
