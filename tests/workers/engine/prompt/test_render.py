"""Conversations through templates in the styles of well-known families: what the model gets to read."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.templates import (
    CODED,
    GEMMA2,
    ITEMS,
    LLAMA31,
    MISTRAL,
    QWEN3,
    SMOLVLM,
    STRINGS,
    with_template,
)

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, FunctionCall, Message, Template, Tool, ToolUse
from mlx_server.workers.engine.prompt.render import ChatRenderer, TemplateDefaults

pytestmark = pytest.mark.model

WEATHER = Tool("weather", "The weather somewhere", {"type": "object", "properties": {"city": {"type": "string"}}})
LONG_ID = "call_4f7b9a0c2d1e4f7b9a0c2d1e"
USER = Message("user", "Weather in Rome?")
Make = Callable[..., ChatRenderer]


def called(arguments: str = '{"city": "Rome"}', id_: str = LONG_ID, content: str = "") -> Message:
    return Message("assistant", content, tool_calls=(FunctionCall(id_, "weather", arguments),))


def answered(content: str = '{"sky": "blue"}', id_: str = LONG_ID) -> Message:
    return Message("tool", content, tool_call_id=id_)


@pytest.fixture
def make(smollm2: Path) -> Iterator[Make]:
    renderers: list[ChatRenderer] = []

    def renderer(template: str | None, added: tuple[str, ...] = (), **defaults: Any) -> ChatRenderer:
        tokenizer = with_template(smollm2, template, added)
        renderers.append(ChatRenderer(tokenizer, lambda characters, field: None, TemplateDefaults(**defaults)))
        return renderers[-1]

    yield renderer
    for renderer_ in renderers:
        renderer_.close()


@pytest.fixture
def smol(make: Make, smollm2: Path) -> ChatRenderer:
    return make((smollm2 / "chat_template.jinja").read_text())


def text_of(renderer: ChatRenderer, *messages: Message, **more: Any) -> str:
    """What the model reads."""
    tool_use = more.pop("tool_use", ToolUse())
    return str(renderer._tokenizer.decode(renderer.render(ChatPrompt(messages, **more), tool_use).tokens))


def refusal(renderer: ChatRenderer, *messages: Message, **more: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        text_of(renderer, *messages, **more)
    return caught.value


@pytest.mark.parametrize(
    ("template", "knows"), [(QWEN3, True), (LLAMA31, True), (MISTRAL, True), (GEMMA2, False), (ITEMS, False)]
)
def test_knows_tools_says_whether_the_models_template_shows_them(make: Make, template: str, knows: bool) -> None:
    assert make(template).knows_tools is knows


def test_a_model_without_a_template_knows_no_tools(make: Make) -> None:
    assert make(None).knows_tools is False


def test_tools_are_the_templates_business_where_it_knows_them(make: Make) -> None:
    renderer = make(QWEN3)
    text = text_of(renderer, Message("system", "Be brief."), USER, tools=(WEATHER,))
    [shown] = [json.loads(line) for line in text.splitlines() if line.startswith('{"type"')]
    assert shown == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather somewhere",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    assert text.count("<tools>") == 1
    assert not renderer.render(ChatPrompt((USER,), (WEATHER,)), ToolUse()).described_tools


def test_tools_are_described_to_a_model_whose_template_ignores_them(smol: ChatRenderer) -> None:
    text = text_of(smol, USER, tools=(WEATHER,))
    system, user, _ = text.split("<|im_end|>\n")
    assert system.startswith("<|im_start|>system\n# Tools")
    [shown] = [json.loads(line) for line in system.splitlines() if line.startswith('{"type"')]
    assert shown["function"]["name"] == "weather"
    assert '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>' in system
    assert user == "<|im_start|>user\nWeather in Rome?"
    assert smol.render(ChatPrompt((USER,), (WEATHER,)), ToolUse()).described_tools


def test_tools_are_described_after_what_the_system_message_says(smol: ChatRenderer) -> None:
    text = text_of(smol, Message("system", "Be brief."), USER, tools=(WEATHER,))
    assert text.startswith("<|im_start|>system\nBe brief.\n\n# Tools")
    assert text.count("<|im_start|>system") == 1


def test_tools_are_described_by_the_user_where_no_system_may_speak(make: Make) -> None:
    text = text_of(make(GEMMA2), USER, tools=(WEATHER,))
    assert "<start_of_turn>user\n# Tools" in text
    assert "</tool_call>\n\nWeather in Rome?<end_of_turn>" in text


@pytest.mark.parametrize("template", [QWEN3, LLAMA31, MISTRAL, ITEMS])
def test_tools_are_not_shown_when_none_may_be_called(make: Make, template: str) -> None:
    renderer = make(template)
    plain = text_of(renderer, USER)
    assert text_of(renderer, USER, tools=(WEATHER,), tool_use=ToolUse("none")) == plain
    assert text_of(renderer, USER, tools=(WEATHER,)) != plain
    assert not renderer.render(ChatPrompt((USER,), (WEATHER,)), ToolUse("none")).described_tools


CONVERSATION = (USER, called(), answered(), Message("assistant", "Blue."), Message("user", "Thanks"))


def test_a_tool_conversation_in_qwens_style(make: Make) -> None:
    text = text_of(make(QWEN3), *CONVERSATION, tools=(WEATHER,))
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>' in text
    assert '<|im_start|>user\n<tool_response>\n{"sky": "blue"}\n</tool_response><|im_end|>' in text


def test_a_tool_conversation_in_llamas_style(make: Make) -> None:
    text = text_of(make(LLAMA31), *CONVERSATION, tools=(WEATHER,))
    assert '{"name": "weather", "parameters": {"city": "Rome"}}<|eot_id|>' in text
    assert "<|start_header_id|>ipython<|end_header_id|>" in text


def test_a_tool_conversation_in_mistrals_style_gets_ids_that_it_takes(make: Make) -> None:
    text = text_of(make(MISTRAL), *CONVERSATION, tools=(WEATHER,))
    calls, results = text.split('"id": "')[1], text.split('"call_id": "')[1]
    assert calls[:9] == results[:9]
    assert calls[:9].isalnum()
    assert '{"name": "weather", "arguments": {"city": "Rome"}}' in text
    kept = text_of(make(MISTRAL), USER, called(id_="abcABC123"), answered(id_="abcABC123"))
    assert '"call_id": "abcABC123"' in kept


def test_a_tool_conversation_for_a_template_that_would_drop_it(smol: ChatRenderer) -> None:
    messages = (USER, called(content="Let me see."), answered(), answered("more"), Message("assistant", "Blue."))
    text = text_of(smol, *messages, Message("user", "Thanks"))
    assert text.split("<|im_start|>")[2:] == [
        "user\nWeather in Rome?<|im_end|>\n",
        'assistant\nLet me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
        "<|im_end|>\n",
        'user\n<tool_response>\n{"sky": "blue"}\n</tool_response>\n<tool_response>\nmore\n</tool_response><|im_end|>\n',
        "assistant\nBlue.<|im_end|>\n",
        "user\nThanks<|im_end|>\n",
        "assistant\n",
    ]


def test_a_tool_conversation_keeps_turns_alternating_where_that_is_asked_for(make: Make) -> None:
    text = text_of(make(GEMMA2), *CONVERSATION[:3], tools=(WEATHER,))
    assert text.index("<tool_response>") > text.index("<start_of_turn>model") > text.index("# Tools")


def test_arguments_are_strings_for_a_template_that_wants_them_so(make: Make) -> None:
    assert '```json\n{"city": "Rome"}\n```' in text_of(make(STRINGS), USER, called(), answered())


def test_a_result_is_given_the_name_of_its_function(make: Make) -> None:
    template = "{% for m in messages %}{{ m.name }}|{{ m.content }}|{{ (m.tool_calls or []) | tojson }};{% endfor %}"
    text = text_of(make(template), USER, called(), called(id_="other"), answered("a", "other"))
    assert text.endswith("weather|a|[];")


def test_deprecated_functions_are_linked_by_their_names(make: Make) -> None:
    template = "{% for m in messages %}{{ m.tool_call_id }}{{ m.tool_calls | tojson }}{{ m.content }};{% endfor %}"
    template = template.replace("m.tool_calls | tojson", "(m.tool_calls or []) | tojson")
    old = Message("assistant", "", tool_calls=(FunctionCall("", "weather", "{}"),))
    text = text_of(make(template), USER, old, Message("tool", "blue", "weather"))
    assert '"id": "call_1_0"' in text
    assert "call_1_0[]blue;" in text


@pytest.mark.parametrize("arguments", ["Rome", '["Rome"]', "{", '"Rome"', '{"a": "\\ud800"}', "[" * 5000])
def test_arguments_that_are_no_object_never_break_a_template(make: Make, arguments: str) -> None:
    assert json.dumps(arguments)[1:-1] in text_of(make(LLAMA31), USER, called(arguments), answered())
    assert arguments in text_of(make(QWEN3), USER, called(arguments), answered())
    assert f"<parameter=raw>{arguments}</parameter>" in text_of(make(ITEMS), USER, called(arguments), answered())
    assert arguments in text_of(make(STRINGS), USER, called(arguments), answered())
    assert f'"arguments": {json.dumps(arguments)}}}' in text_of(make(GEMMA2), USER, called(arguments), answered())


def test_no_arguments_are_an_empty_object(make: Make) -> None:
    assert '"parameters": {}}' in text_of(make(LLAMA31), USER, called(""), answered())


def test_arguments_that_a_template_has_no_way_to_take_are_refused(make: Make) -> None:
    template = ITEMS.replace("<parameter={{ key }}>", "{{ raise_exception('no raw') if key == 'raw' }}")
    refused = refusal(make(template), USER, called(), answered(), called("Rome"), answered())
    assert refused.param == "messages[3].tool_calls"
    assert "JSON object" in refused.message


def test_what_else_a_template_refuses_is_not_laid_on_arguments(make: Make) -> None:
    message = Message("assistant", "", tool_calls=called("Rome").tool_calls * 2)
    refused = refusal(make(LLAMA31), USER, message, answered())
    assert refused.param == "messages"
    assert "only single tool-calls" in refused.message


def test_a_template_with_needs_of_its_own_is_given_calls_as_text(make: Make) -> None:
    # The probe's call does not satisfy it, so nothing is known of it but that it takes text.
    assert '"arguments": {"city": "Rome"}}' in text_of(make(CODED), USER, called(), answered())


@pytest.mark.parametrize(
    ("template", "one"), [(LLAMA31, True), (QWEN3, False), (MISTRAL, False), (GEMMA2, False)], ids=range(4)
)
def test_a_template_with_a_place_for_one_call_is_known(make: Make, template: str, one: bool) -> None:
    renderer = make(template)
    assert renderer.render(ChatPrompt((USER,), (WEATHER,)), ToolUse()).one_call is one
    assert renderer.render(ChatPrompt((USER,)), ToolUse()).one_call is False


@pytest.mark.parametrize(
    ("template", "trouble"),
    [
        (QWEN3, ""),
        (SMOLVLM, ""),
        (GEMMA2, ""),
        ("{% if messages %}", "line 1: Unexpected end of template"),
        ("a\n{{ 'b' + }}", "line 2: unexpected 'end of print statement'"),
        ("{{ raise_exception('not today') }}", "refuses these messages: not today"),
        ("{{ messages[0].content | nosuch }}", "nosuch"),
        ("{{ messages[0].words.first }}", "has no attribute 'words'"),
    ],
    ids=range(8),
)
def test_what_is_wrong_with_a_template_is_known_without_a_request(make: Make, template: str, trouble: str) -> None:
    found = make(template).trouble
    assert bool(found) is bool(trouble)
    assert trouble in found
    assert "\n" not in found


def test_without_a_template_there_is_none_to_complain_of(make: Make) -> None:
    renderer = make(None)
    assert not renderer.takes_chats
    assert "no chat template" in renderer.trouble
    assert make(None, use_default=True).trouble == ""


def test_reasoning_is_shown_to_a_template_that_reads_it(make: Make) -> None:
    thought = Message("assistant", "Blue.", reasoning="Rome is sunny.")
    assert "<think>\nRome is sunny.\n</think>\n\nBlue." in text_of(make(QWEN3), USER, thought, USER)


@pytest.mark.parametrize("template", [QWEN3, LLAMA31, GEMMA2, None])
def test_the_last_message_is_gone_on_with(make: Make, smollm2: Path, template: str | None) -> None:
    renderer = make(template or (smollm2 / "chat_template.jinja").read_text())
    last = Message("assistant", "The sky is")
    text = text_of(renderer, USER, last, continues_last=True)
    assert text.endswith("The sky is")
    assert "GOES_ON" not in text
    assert text_of(renderer, USER, last) != text


def test_white_space_at_the_end_of_the_last_message_is_kept_where_the_template_does(make: Make) -> None:
    last = Message("assistant", "The sky is ")
    assert text_of(make(QWEN3), USER, last, continues_last=True).endswith("The sky is ")
    assert text_of(make(LLAMA31), USER, last, continues_last=True).endswith("The sky is")


def test_an_empty_last_message_begins_the_answer(smol: ChatRenderer) -> None:
    text = text_of(smol, USER, Message("assistant", ""), continues_last=True)
    assert text == text_of(smol, USER)


def test_a_last_message_that_the_template_drops_is_refused(make: Make) -> None:
    refused = refusal(make("{{ messages[0].content }}"), USER, Message("assistant", "a"), continues_last=True)
    assert refused.param == "messages"
    assert "can't be continued" in refused.message


TEMPLATES = {
    "client's": Template(text="{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"),
    "roles": Template(roles={"user": "U: ", "assistant": "A: ", "stop": "\n"}),
}


def test_a_clients_template_takes_the_models_place(smol: ChatRenderer) -> None:
    assert text_of(smol, USER, template=TEMPLATES["client's"]) == "<|im_start|>[user]Weather in Rome?"


def test_a_clients_template_may_know_tools_or_not(smol: ChatRenderer) -> None:
    text = text_of(smol, *CONVERSATION, tools=(WEATHER,), template=TEMPLATES["client's"])
    assert text.startswith("<|im_start|>[system]# Tools")
    assert '[assistant]<tool_call>\n{"name": "weather"' in text
    own = text_of(smol, *CONVERSATION, tools=(WEATHER,), template=Template(text=MISTRAL))
    assert "[AVAILABLE_TOOLS]" in own
    assert '"call_id"' in own


@pytest.mark.parametrize("style", [QWEN3, LLAMA31, MISTRAL, ITEMS, STRINGS], ids=range(5))
def test_a_clients_template_is_rendered_as_the_models_own_would_be(make: Make, smol: ChatRenderer, style: str) -> None:
    for messages in ((USER,), CONVERSATION, (USER, called("Rome"), answered())):
        own = text_of(make(style), *messages, tools=(WEATHER,))
        assert text_of(smol, *messages, tools=(WEATHER,), template=Template(text=style)) == own


def test_a_clients_template_continues_the_last_message(smol: ChatRenderer) -> None:
    last = Message("assistant", "The sky is ")
    text = text_of(smol, USER, last, continues_last=True, template=Template(text=QWEN3))
    assert text.endswith("<|im_start|>assistant\nThe sky is ")


def test_roles_build_the_prompt_as_mlx_lm_does(smol: ChatRenderer) -> None:
    from mlx_lm.server import convert_chat

    roles = {"system": "RULE: ", "user": "USER: ", "assistant": "ASSISTANT: ", "stop": "\n"}
    messages = (Message("system", "Be brief."), USER, Message("assistant", "Blue."), USER)
    expected = convert_chat([{"role": m.role, "content": m.content} for m in messages], roles)
    assert text_of(smol, *messages, template=Template(roles=roles)) == expected


def test_roles_prompt_stands_before_the_first_turn(smol: ChatRenderer) -> None:
    roles = {"system_prompt": "A chat.", "user": "U: ", "assistant": "A:", "stop": "\n"}
    assert text_of(smol, USER, template=Template(roles=roles)) == "A chat.\nU: Weather in Rome?\nA:"


def test_roles_continue_the_last_message(smol: ChatRenderer) -> None:
    text = text_of(smol, USER, Message("assistant", "Blue"), continues_last=True, template=TEMPLATES["roles"])
    assert text == "U: Weather in Rome?\nA: Blue"


def test_roles_without_a_meaning_are_refused(smol: ChatRenderer) -> None:
    refused = refusal(smol, USER, template=Template(roles={"user": "U: ", "bot": "B: "}))
    assert refused.param == "role_mapping.bot"
    assert "system_prompt, system, user, assistant, stop" in refused.message


def test_a_model_without_a_template_says_what_to_do(make: Make) -> None:
    refused = refusal(make(None), USER)
    assert refused.param == "messages"
    for way in ("/v1/completions", "`chat_template`", "`use_default_chat_template`", "--use-default-chat-template"):
        assert way in refused.message


CHATML = "<|im_start|>user\nWeather in Rome?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(("flag", "asked"), [(False, True), (True, None), (True, True)])
def test_the_default_template_is_chatml(make: Make, flag: bool, asked: bool | None) -> None:
    assert text_of(make(None, use_default=flag), USER, template=Template(use_default=asked)) == CHATML


def test_the_default_template_can_be_declined_by_a_request(make: Make) -> None:
    assert refusal(make(None, use_default=True), USER, template=Template(use_default=False)).param == "messages"


def test_the_default_template_does_not_take_the_place_of_the_models_own(make: Make) -> None:
    text = text_of(make("own", use_default=True), USER, template=Template(use_default=True))
    assert text == "own"


def test_a_prompt_that_can_not_fit_is_refused_before_it_is_tokenised(smollm2: Path) -> None:
    seen: list[tuple[int, str]] = []

    def check(characters: int, field: str) -> None:
        seen.append((characters, field))
        raise InvalidRequest("too long", field)

    renderer = ChatRenderer(with_template(smollm2, "{{ 'ab' * 1000 }}"), check)
    assert refusal(renderer, USER).message == "too long"
    assert seen == [(2000, "messages")]


def test_characters_that_are_none_are_refused(make: Make) -> None:
    assert refusal(make("{{ '\\ud800' }}"), USER).param == "messages"


def test_a_function_renders_as_any_template(smollm2: Path) -> None:
    from mlx_lm.chat_templates import deepseek_v32
    from mlx_lm.tokenizer_utils import TokenizerWrapper

    inner = with_template(smollm2, None, ("<think>", "</think>"))._tokenizer
    tokenizer = TokenizerWrapper(inner, chat_template=deepseek_v32.apply_chat_template)
    renderer = ChatRenderer(tokenizer, lambda characters, field: None)
    text = text_of(renderer, *CONVERSATION)
    assert 'name="city" string="true">Rome</' in text
    assert "<result>" in text
    assert text.endswith("<think>")
    quiet = text_of(renderer, *CONVERSATION, template=Template(effort="none"))
    assert quiet.endswith("</think>")
    last = Message("assistant", "The sky is ", reasoning="Look up.")
    assert text_of(renderer, USER, last, continues_last=True).endswith("Look up.</think>The sky is ")
    shown = text_of(renderer, USER, tools=(WEATHER,))
    assert '"name": "weather"' in shown
    assert "DSML" in shown, "told in its own way"
    asked = Template(arguments={"nonsense": 1, "enable_thinking": False})
    rendered = renderer.render(ChatPrompt(CONVERSATION, template=asked), ToolUse())
    assert rendered.ignored == ("chat_template_kwargs.nonsense",)
    assert tokenizer.decode(rendered.tokens) == quiet


def test_one_of_several_named_templates_is_chosen_by_tools(smollm2: Path) -> None:
    tokenizer = with_template(smollm2, None)
    tokenizer.chat_template = {"default": "plain {{ style }}", "tool_use": "{{ tools | tojson }} {{ mood }}"}
    tokenizer.has_chat_template = True
    renderer = ChatRenderer(tokenizer, lambda characters, field: None)
    assert renderer.knows_tools
    assert text_of(renderer, USER, template=Template(arguments={"style": "x", "mood": "y"})) == "plain x"
    assert '"weather"' in text_of(renderer, USER, tools=(WEATHER,))
