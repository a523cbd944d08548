"""Which variables reach a template: what it knows, nothing else, the request's before the server's."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.templates import GPT_OSS, QWEN3, THINKS_ALWAYS, Jinja, with_template

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, Message, Template, ToolUse
from mlx_server.workers.engine.prompt.render import ChatRenderer, TemplateDefaults
from mlx_server.workers.engine.prompt.templates.arguments import Arguments
from mlx_server.workers.engine.prompt.templates.efforts import known_efforts, nearest

pytestmark = pytest.mark.model
THINK = ("<think>", "</think>")
PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"
SHOWS = "{{ style }}|{{ enable_thinking }}|{{ reasoning_effort }}<think>"
SWITCHED = "{{ thinking }}<think></think>"
OPTIONAL = "{% if not date is defined %}{% set date = 'today' %}{% endif %}{{ date }}"

Show = Callable[..., str]


@pytest.fixture
def show(smollm2: Path) -> Show:
    def shown(template: str, added: tuple[str, ...] = THINK, server: dict[str, Any] | None = None, **asked: Any) -> str:
        tokenizer = with_template(smollm2, template, added)
        renderer = ChatRenderer(tokenizer, lambda characters, field: None, TemplateDefaults(server or {}))
        prompt = ChatPrompt((Message("user", "Hi"),), template=Template(**asked))
        with contextlib.closing(renderer):
            return str(tokenizer.decode(renderer.render(prompt, ToolUse()).tokens))

    return shown


def named(template: str, *, thinks: bool = False, **asked: Any) -> tuple[str, ...]:
    """What of it changes nothing with this template, and is not given to it."""
    settled = Arguments(Jinja(template, thinks=thinks), {}).settle(Template(**asked), {})
    assert settled.arguments == {}
    return settled.ignored


def refusal(show: Show, template: str, **asked: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        show(template, **asked)
    return caught.value


def test_an_argument_is_a_variable_of_the_template(show: Show) -> None:
    assert show(SHOWS, arguments={"style": "terse", "enable_thinking": False}) == "terse|False|<think>"
    assert show(OPTIONAL, arguments={"date": "1 May"}) == "1 May"


def test_thinking_is_on_unless_it_is_turned_off(show: Show) -> None:
    assert show(QWEN3).endswith("<|im_start|>assistant\n")
    assert show(QWEN3, arguments={"enable_thinking": False}).endswith("<think>\n\n</think>\n\n")


def test_an_argument_that_the_template_does_not_know_is_named(show: Show) -> None:
    assert named(SHOWS, arguments={"stile": "terse"}) == ("chat_template_kwargs.stile",)
    assert named(PLAIN, arguments={"preserve_thinking": True, "thinking": True}) == (
        "chat_template_kwargs.preserve_thinking",
        "chat_template_kwargs.thinking",
    )
    assert show(PLAIN, arguments={"stile": "terse"}) == "Hi"


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt", "bos_token", "eos_token", "tokenize"])
def test_what_the_server_gives_can_not_be_given(show: Show, name: str) -> None:
    template = "{{ %s }}" % name  # noqa: UP031 - braces are the template's
    refused = refusal(show, template, arguments={name: "x"})
    assert refused.param == f"chat_template_kwargs.{name}"
    assert "can't be set" in refused.message


@pytest.mark.parametrize("switch", ["enable_thinking", "thinking"])
def test_what_is_so_already_needs_no_word(switch: str) -> None:
    assert named(PLAIN, arguments={switch: False}, thinking=False, effort="none") == ()
    assert named(THINKS_ALWAYS, thinks=True, arguments={switch: True}, thinking=True) == ()


def test_what_can_not_be_turned_on_or_off_is_named() -> None:
    assert named(THINKS_ALWAYS, thinks=True, arguments={"enable_thinking": False}) == (
        "chat_template_kwargs.enable_thinking",
    )
    assert named(PLAIN, arguments={"enable_thinking": True}) == ("chat_template_kwargs.enable_thinking",)
    assert named(THINKS_ALWAYS, thinks=True, thinking=False, effort="none") == ("reasoning_effort", "thinking")
    assert named(PLAIN, thinking=True) == ("thinking",)


def test_another_name_for_the_switch_is_found(show: Show) -> None:
    assert show(SWITCHED, arguments={"enable_thinking": True}).startswith("True")
    assert show(SWITCHED, effort="none").startswith("False")
    assert show(SWITCHED, server={"enable_thinking": True}).startswith("True")
    assert show(QWEN3, arguments={"thinking": False}) == show(QWEN3, arguments={"enable_thinking": False})


@pytest.mark.parametrize(
    ("effort", "thinks"), [("none", False), ("minimal", False), ("low", True), ("high", True), ("max", True)]
)
def test_effort_is_a_switch_where_there_are_no_degrees(show: Show, effort: str, thinks: bool) -> None:
    assert show("{{ enable_thinking }}<think>", effort=effort) == f"{thinks}<think>"


def test_effort_is_given_to_a_template_that_knows_it(show: Show) -> None:
    assert show(SHOWS, effort="low") == "|True|low<think>"
    assert show(SHOWS, effort="none") == "|False|none<think>"


@pytest.mark.parametrize("param", ["reasoning_effort", "output_config.effort", "reasoning.effort"])
def test_effort_without_a_way_to_ask_for_it_is_named_as_the_client_calls_it(param: str) -> None:
    assert named(PLAIN, effort="high", effort_param=param) == (param,)


def test_effort_is_the_nearest_that_the_template_knows(show: Show) -> None:
    given = Arguments(Jinja(GPT_OSS, thinks=True), {}).settle(Template(effort="xhigh"), {})
    assert (given.arguments, given.ignored) == ({"reasoning_effort": "high"}, ())
    least = Arguments(Jinja(GPT_OSS, thinks=True), {}).settle(Template(effort="none"), {})
    assert (least.arguments, least.ignored) == ({"reasoning_effort": "low"}, ("reasoning_effort",))
    assert "Reasoning: high" in show(GPT_OSS, effort="max")


def test_an_argument_says_it_more_exactly_than_effort(show: Show) -> None:
    assert show(SHOWS, effort="high", arguments={"reasoning_effort": "low"}) == "|True|low<think>"
    assert show("{{ enable_thinking }}<think>", effort="high", arguments={"enable_thinking": False}).startswith("False")


def test_a_request_says_it_better_than_the_server(show: Show) -> None:
    server = {"style": "terse", "enable_thinking": False}
    assert show(SHOWS, server=server) == "terse|False|<think>"
    assert show(SHOWS, server=server, arguments={"style": "long"}) == "long|False|<think>"
    assert show(SHOWS, server=server, effort="high") == "terse|True|high<think>"
    assert show(PLAIN, server=server) == "Hi"


def test_variables_of_a_clients_template_are_its_own(show: Show) -> None:
    text = "{{ mood }}{{ enable_thinking }}"
    assert show(PLAIN, text=text, arguments={"mood": "calm"}) == "calmTrue"
    assert show(SHOWS, text=text, arguments={"style": "terse"}) == "True"


def test_prefixes_have_no_variables(show: Show) -> None:
    assert show(SHOWS, roles={"user": "U: "}, arguments={"enable_thinking": False}) == "U: Hi"


def test_a_broken_template_of_a_client_is_its_fault(show: Show) -> None:
    assert refusal(show, PLAIN, text="{% if %}").param == "chat_template"


def test_a_broken_template_of_a_model_is_said_to_be(show: Show) -> None:
    refused = refusal(show, "{% if %}")
    assert refused.param == "messages"
    assert "broken" in refused.message


@pytest.mark.parametrize(
    ("template", "server", "part"),
    [
        ("{% if %}", {}, "line 1"),
        (PLAIN, {"style": 1}, "--chat-template-args.style"),
        (SHOWS, {"stile": 1}, "it knows enable_thinking, reasoning_effort, style"),
        (SHOWS, {"tools": 1}, "tools"),
    ],
)
def test_check_defaults_finds_what_the_operator_got_wrong(
    smollm2: Path, template: str, server: dict[str, Any], part: str
) -> None:
    tokenizer = with_template(smollm2, template)
    with pytest.raises(InvalidRequest) as caught:
        ChatRenderer(tokenizer, lambda characters, field: None, TemplateDefaults(server)).check_defaults()
    assert part in caught.value.message


def test_check_defaults_is_content_without_a_template(smollm2: Path) -> None:
    tokenizer = with_template(smollm2, None)
    ChatRenderer(tokenizer, lambda characters, field: None, TemplateDefaults({"style": 1})).check_defaults()


def test_thinking_that_is_wanted_or_not_turns_the_switch(show: Show) -> None:
    assert show(QWEN3, thinking=False) == show(QWEN3, arguments={"enable_thinking": False})
    assert show(QWEN3, thinking=True) == show(QWEN3) == show(QWEN3, thinking=None)
    assert show(SWITCHED, thinking=False) == "False<think></think>"
    # Whoever says both means the switch: an effort turns it on only where nothing else is said.
    assert show(QWEN3, thinking=False, effort="high") == show(QWEN3, thinking=False)


def test_thinking_without_a_switch_is_what_it_is(show: Show) -> None:
    assert show(PLAIN, thinking=False) == show(PLAIN, thinking=True) == show(PLAIN) == "Hi"
    assert show(THINKS_ALWAYS, thinking=True) == show(THINKS_ALWAYS, thinking=False) == show(THINKS_ALWAYS)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("{{ reasoning_effort }}", set()),
        ("{% if reasoning_effort == 'high' %}x{% endif %}", set()),
        (
            "{% if reasoning_effort == 'low' %}x{% elif reasoning_effort == \"high\" %}y{% endif %}",
            {"low", "medium", "high"},
        ),
        ("{% if reasoning_effort not in ['none', 'high'] %}{{ raise_exception('no') }}{% endif %}", {"none", "high"}),
        (GPT_OSS, {"low", "medium", "high"}),
    ],
    ids=range(5),
)
def test_known_efforts_are_those_that_the_text_tells_apart(text: str, known: set[str]) -> None:
    assert known_efforts([text]) == known


@pytest.mark.parametrize(
    ("effort", "known", "expected"),
    [
        ("xhigh", {"low", "medium", "high"}, "high"),
        ("minimal", {"low", "medium", "high"}, "low"),
        ("none", {"low", "medium", "high"}, "low"),
        ("low", {"none", "high"}, "high"),
        ("none", {"none", "high"}, "none"),
        ("medium", {"low", "high"}, "low"),
        ("high", {"none"}, "high"),
        ("high", set(), "high"),
    ],
)
def test_the_nearest_effort_is_taken(effort: str, known: set[str], expected: str) -> None:
    assert nearest(effort, known) == expected
