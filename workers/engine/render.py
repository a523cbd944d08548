"""A conversation becomes token ids: which template renders it, what that gets to see. Tokenizer's thread only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import TemplateSyntaxError

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import ChatPrompt, Media, Message, Template, ToolUse
from mlx_server.workers.engine.media_support import MediaSupport
from mlx_server.workers.engine.segments import SegmentedTokenizer
from mlx_server.workers.engine.templates.arguments import KWARGS, Arguments
from mlx_server.workers.engine.templates.content import ContentForm
from mlx_server.workers.engine.templates.conversation import linked, parsed_arguments, to_dicts
from mlx_server.workers.engine.templates.kinds import (
    CHATML,
    ChatTemplate,
    ClientTemplate,
    Conversation,
    OwnTemplate,
    RolePrefixes,
)
from mlx_server.workers.engine.templates.sandbox import Sandbox
from mlx_server.workers.engine.templates.seeing import probe_content
from mlx_server.workers.engine.templates.tools import Knowledge, describe, openai_tools, probe, with_description

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
    because the template knows no tools; else a call looks as the model's own template has it. `media` is what its
    pictures became. `ignored` are the paths of fields that change nothing with this template."""

    tokens: list[int]
    described_tools: bool = False
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
    ) -> None:
        """`check_length(characters, field)` raises InvalidRequest for what can't fit into the context. `media` reads
        pictures, for a model that sees."""
        self._tokenizer = tokenizer
        self._segments = SegmentedTokenizer(tokenizer)
        self._check_length = check_length
        self._defaults = defaults or TemplateDefaults()
        self._sandbox = sandbox or Sandbox()
        self._own = OwnTemplate(tokenizer) if tokenizer.has_chat_template else None
        self._default = OwnTemplate(tokenizer, CHATML)
        self._own_knowledge: Knowledge | None = None
        self._media = media
        self._own_form: ContentForm | None = None

    @property
    def knows_tools(self) -> bool:
        """The model's own template tells the model which tools there are."""
        return self._own is not None and self._knowledge(self._own, self._defaults.arguments).tools

    def check_defaults(self) -> None:
        """Raises InvalidRequest for a template that is none, and for server-wide arguments it does not know."""
        template = self._own or (self._default if self._defaults.use_default else None)
        if template is None:
            return
        try:
            takes = Arguments(template, self._tokenizer.special_tokens_map)
        except TemplateSyntaxError as error:
            raise InvalidRequest(f"the chat template is none: line {error.lineno}: {error.message}") from None
        takes.checked(self._defaults.arguments, "--chat-template-args")

    def render(self, prompt: ChatPrompt, tool_use: ToolUse, owner: str | None = None) -> Rendered:
        """The prompt's token ids, quicker if `owner` has sent its beginning before. Raises InvalidRequest."""
        media = tuple(one for message in prompt.messages for one in message.media)
        self._check_media(media)
        template = self._template(prompt.template)
        arguments = self._arguments(template, prompt.template)
        tools = openai_tools(prompt.tools) if prompt.tools and tool_use.choice != "none" else None
        about_tools = tools or any(message.tool_calls or message.role == "tool" for message in prompt.messages)
        knows = self._knowledge(template, arguments) if about_tools else Knowledge()
        text = render_text(template, prompt, tools, arguments, knows, self._form(template, media))
        self._check_length(len(text), "messages")
        tokens, inputs = self._encode(text, template, media, owner)
        return Rendered(tokens, tools is not None and not knows.tools, inputs)

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

    def _arguments(self, template: ChatTemplate, asked: Template) -> dict[str, Any]:
        try:
            takes = Arguments(template, self._tokenizer.special_tokens_map)
        except TemplateSyntaxError as error:
            raise InvalidRequest(f"The model's chat template is broken: {error}", "messages") from None
        return takes.of(asked, self._defaults.arguments)

    def _knowledge(self, template: ChatTemplate, arguments: Mapping[str, Any]) -> Knowledge:
        if template is not self._own:
            return probe(template, arguments)
        if self._own_knowledge is None:
            self._own_knowledge = probe(template, self._defaults.arguments)
        return self._own_knowledge

    def _check_media(self, media: Sequence[Media]) -> None:
        if self._media is not None:
            self._media.check(media)
        for one in media[:1] if self._media is None else ():
            raise InvalidRequest(f"`{one.param}`: this model takes no {one.kind} input.", one.param)

    def _form(self, template: ChatTemplate, media: Sequence[Media]) -> ContentForm:
        """How the template takes content; a client's one takes it as OpenAI's API has it."""
        if self._media is None or isinstance(template, ClientTemplate):
            return ContentForm()
        if isinstance(template, RolePrefixes):
            if media:
                raise InvalidRequest(f"`{media[0].param}`: prefixes for roles have no place for it.", media[0].param)
            return ContentForm()
        if template is not self._own:
            return probe_content(template, {}, self._media.marked)
        if self._own_form is None:
            self._own_form = probe_content(template, self._defaults.arguments, self._media.marked)
        return self._own_form

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


def render_text(
    template: ChatTemplate,
    prompt: ChatPrompt,
    tools: list[dict[str, Any]] | None,
    arguments: Mapping[str, Any],
    knows: Knowledge,
    form: ContentForm | None = None,
) -> str:
    """The prompt, with arguments of calls in a form that the template takes. Raises InvalidRequest."""
    messages = linked(prompt.messages)
    shown = tools if knows.tools else None

    def conversation(stray: Any) -> Conversation:
        given = to_dicts(messages, knows, stray, form)
        if tools and not knows.tools:
            given = with_description(given, describe(tools), system=knows.system)
        elif tools and knows.tools_by_system and given[0]["role"] != "system":
            given = [{"role": "system", "content": ""}, *given]
        return Conversation(given, shown, arguments, prompt.continues_last, prompt.opens_answer)

    try:
        return template.render(conversation("kept"))
    except InvalidRequest as error:
        if template.opaque and arguments:
            blame_arguments(template, conversation("kept"), error)
        stray = first_stray(messages)
        if stray is None or not knows.calls:
            raise
        return rendered_wrapped(template, conversation, stray, error)


def rendered_wrapped(
    template: ChatTemplate, conversation: Callable[[Any], Conversation], stray: int, error: InvalidRequest
) -> str:
    """The prompt with arguments that are no object put into one. Raises InvalidRequest, for them if it is due to them,
    else `error`."""
    try:
        return template.render(conversation("wrapped"))
    except InvalidRequest:
        pass
    try:
        template.render(conversation("left out"))
    except InvalidRequest:
        raise error from None
    where = f"messages[{stray}].tool_calls"
    message = f"`{where}`: the chat template takes only arguments that are a JSON object."
    raise InvalidRequest(message, where) from None


def blame_arguments(template: ChatTemplate, conversation: Conversation, error: InvalidRequest) -> None:
    """Raise InvalidRequest for the template's arguments if it works without them."""
    try:
        template.render(replace(conversation, arguments={}))
    except InvalidRequest:
        return
    raise InvalidRequest(f"`{KWARGS}`: {error.message}", KWARGS) from None


def first_stray(messages: list[Message]) -> int | None:
    """The first message with a call whose arguments are no JSON object."""
    for i, message in enumerate(messages):
        if any(parsed_arguments(call.arguments) is None for call in message.tool_calls):
            return i
    return None
