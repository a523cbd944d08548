"""What agents send through templates in the styles of well-known families: all of it reaches the model, in place."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from support.templates import (
    DEEPSEEK,
    GEMMA2,
    GEMMA3N,
    GPT_OSS,
    LLAMA2,
    LLAMA31,
    MISTRAL,
    PHI3,
    QWEN3,
    QWEN35,
    R1_DISTILL,
    SMOLVLM,
    Jinja,
)

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, FunctionCall, Media, Message, Tool
from mlx_server.workers.engine.prompt.render import render_text
from mlx_server.workers.engine.prompt.templates.habits import Habits
from mlx_server.workers.engine.prompt.templates.tools import openai_tools

STYLES = {
    "deepseek": DEEPSEEK,
    "gemma2": GEMMA2,
    "gemma3n": GEMMA3N,
    "gpt-oss": GPT_OSS,
    "llama2": LLAMA2,
    "llama3.1": LLAMA31,
    "mistral": MISTRAL,
    "phi3": PHI3,
    "qwen3": QWEN3,
    "qwen3.5": QWEN35,
    "r1-distill": R1_DISTILL,
    "smolvlm": SMOLVLM,
}
TOOL = Tool("look", "Looks")
SYSTEM, LATE = Message("system", "the rule"), Message("system", "the reminder")
HI, MORE, AND = (Message("user", text) for text in ("the question", "the request", "the remark"))
OK, YES = (Message("assistant", text) for text in ("the answer", "the reply"))
ID = "call_0123456789abcdef01234567"


def called(*names: str, words: str = "") -> Message:
    calls = tuple(FunctionCall(ID + name, "look", f'{{"at": "{name}"}}') for name in names)
    return Message("assistant", words, tool_calls=calls)


def result(name: str, *media: Media) -> Message:
    return Message("tool", f"the sight of {name}", tool_call_id=ID + name, media=media)


CONVERSATIONS = {
    "no system role": [SYSTEM, HI],
    "two systems": [SYSTEM, LATE, HI, OK, MORE],
    "system at the end": [SYSTEM, HI, LATE],
    "system in the middle": [SYSTEM, HI, OK, LATE, MORE, YES, AND],
    "late system alone": [HI, LATE, OK, MORE],
    "two users": [HI, MORE, OK, AND],
    "two assistants": [HI, OK, YES, MORE],
    "assistant first": [SYSTEM, OK, HI],
    "user after a result": [SYSTEM, HI, called("east"), result("east"), MORE, OK, AND],
    "system after a result": [SYSTEM, HI, called("east"), result("east"), LATE, MORE],
    "several calls": [SYSTEM, HI, called("east", "west"), result("east"), result("west"), OK, MORE],
    "calls in a row": [SYSTEM, HI, called("east"), result("east"), called("west"), result("west"), OK],
    "words before a call without a system": [HI, called("east", words="the plan"), result("east"), OK, MORE],
    "words before a call": [SYSTEM, HI, called("east", words="the plan"), result("east"), OK, MORE],
    "all at once": [SYSTEM, LATE, HI, MORE, called("east"), result("east"), AND, LATE, YES],
}


def rendered(habits: Habits, messages: list[Message], tools: bool = False) -> str:
    given = openai_tools((TOOL,)) if tools else None
    return render_text(habits, ChatPrompt(tuple(messages), (TOOL,) if tools else ()), given, {})[0]


def common(one: str, other: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@pytest.mark.parametrize("style", STYLES)
def test_all_that_was_said_is_read_in_its_order(style: str) -> None:
    habits = Habits(Jinja(STYLES[style]), {})
    for name, messages in CONVERSATIONS.items():
        for tools in (False, True):
            text, place = rendered(habits, messages, tools), 0
            for message in messages:
                for word in [message.content, *(call.arguments.split('"')[3] for call in message.tool_calls)]:
                    found = text.find(word, place)
                    assert found >= 0, f"{word} in {name}: {text}"
                    place = 0 if name == "several calls" else found  # each result may stand after its own call
            for message in messages:
                if message.content and messages.count(message) == 1:
                    assert text.count(message.content) == 1, f"{message.content} in {name}: {text}"


@pytest.mark.parametrize("style", STYLES)
def test_a_conversation_that_goes_on_has_the_same_beginning(style: str) -> None:
    """All but what ends the last turn, where another comes to stand in it."""
    habits = Habits(Jinja(STYLES[style]), {})
    for name, messages in CONVERSATIONS.items():
        for end in range(1, len(messages)):
            before = messages[:end]
            if before[-1].tool_calls or messages[end].role == "tool" or all(one.role != "user" for one in before):
                continue
            shorter, longer = rendered(habits, before), rendered(habits, messages)
            said = shorter.rindex(before[-1].content) + len(before[-1].content)
            assert common(shorter, longer) >= said, f"{name} after {end}: {shorter!r} {longer!r}"


@pytest.mark.parametrize("style", STYLES)
def test_a_conversation_costs_one_render_once_the_template_is_known(style: str) -> None:
    template = Jinja(STYLES[style])
    habits = Habits(template, {})
    for messages in CONVERSATIONS.values():
        rendered(habits, messages)
    for messages in CONVERSATIONS.values():
        before = template.renders
        rendered(habits, messages)
        assert template.renders == before + 1


def test_what_a_template_takes_is_given_as_it_stands() -> None:
    habits = Habits(Jinja(PHI3), {})
    text = rendered(habits, [SYSTEM, LATE, HI, MORE, OK, LATE])
    assert text == (
        "<|system|>\nthe rule<|end|>\n<|system|>\nthe reminder<|end|>\n<|user|>\nthe question<|end|>\n"
        "<|user|>\nthe request<|end|>\n<|assistant|>\nthe answer<|end|>\n"
        "<|system|>\nthe reminder<|end|>\n<|assistant|>\n"
    )


def test_words_before_a_call_are_kept_where_a_turn_of_calls_does_not_count_as_one() -> None:
    turns = [HI, called("east", words="the plan"), result("east"), called("west", words="the way"), result("west"), OK]
    text = rendered(Habits(Jinja(MISTRAL), {}), turns)
    call, place = r"\[TOOL_CALLS\] \[\{[^]]+\]</s>", r"\[TOOL_RESULTS\] \{[^]]+\[/TOOL_RESULTS\]"
    rest = re.sub(place, "<result>", re.sub(call, "<call>", text))
    assert rest == (
        "<s>[INST] the question[/INST] the plan</s>[INST] [/INST]<call>"
        "<result> the way</s>[INST] [/INST]<call><result> the answer</s>"
    )


def thought(message: Message, reasoning: str) -> Message:
    return msgspec.structs.replace(message, reasoning=reasoning)


def test_words_beside_a_call_hide_no_reasoning_of_calls_in_a_row() -> None:
    east, west = thought(called("east"), "hm east"), thought(called("west", words="the way"), "hm west")
    turns = [SYSTEM, HI, called("north", words="the plan"), result("north"), OK]
    turns += [MORE, east, result("east"), west, result("west")]
    habits = Habits(Jinja(GPT_OSS), {})
    text = rendered(habits, turns)
    analysis = "<|start|>assistant<|channel|>analysis<|message|>"
    assert text.split("the request<|end|>")[1] == (
        f'{analysis}hm east<|end|><|start|>assistant to=functions.look<|channel|>commentary<|message|>{{"at": "east"}}'
        '<|call|><|start|>functions.look to=assistant<|message|>"the sight of east"<|end|>'
        f"{analysis}hm west\n\nthe way<|end|><|start|>assistant to=functions.look<|channel|>commentary<|message|>"
        '{"at": "west"}<|call|><|start|>functions.look to=assistant<|message|>"the sight of west"<|end|>'
        "<|start|>assistant"
    )
    final = "<|channel|>final<|message|>"
    assert f"{final}the plan<|end|>" in text, "there is no reasoning left that it could hide"
    assert f"{final}the way<|end|>" in rendered(habits, [*turns, YES])
    plain = [HI, called("east", words="the plan"), result("east")]
    assert f"{final}the plan<|end|>" in rendered(habits, plain), "as in the conversation that goes on"
    for style in (QWEN3, MISTRAL, LLAMA31):
        text = rendered(Habits(Jinja(style), {}), [HI, east, result("east"), west, result("west")])
        assert ("hm west" in text) == ("hm east" in text)
        assert text.index("sight of east") < text.index("the way") < text.index('"west"')


def test_a_late_system_message_stays_behind_what_the_model_has_read() -> None:
    late = "<system>\nthe reminder\n</system>"
    conversation = [SYSTEM, HI, OK, LATE, MORE]
    assert rendered(Habits(Jinja(DEEPSEEK), {}), conversation) == (
        f"<s>the rule<User>the question<Assistant>the answer</s><User>{late}<User>the request<Assistant>"
    )
    assert rendered(Habits(Jinja(GEMMA2), {}), conversation) == (
        "<s><start_of_turn>user\nthe rule\n\nthe question<end_of_turn>\n<start_of_turn>model\nthe answer<end_of_turn>\n"
        f"<start_of_turn>user\n{late}\n\nthe request<end_of_turn>\n<start_of_turn>model\n"
    )


def test_a_template_that_needs_more_than_the_probes_is_folded_for_all_it_may_refuse() -> None:
    needy = "{% if messages | length > 4 and messages[4].role == 'user' %}{{ raise_exception('no') }}{% endif %}" + PHI3
    messages = [HI, OK, MORE, YES, AND, Message("user", "the end")]
    with pytest.raises(InvalidRequest, match="no"):
        rendered(Habits(Jinja(needy), {}), messages)
    assert "the end" in rendered(Habits(Jinja(needy), {}), [HI, AND, OK, MORE, Message("user", "the end")])


@pytest.mark.parametrize("style", ["own words", "{{ messages[0].content }}", "{{ messages[-1].content }}"])
def test_a_template_that_shows_no_conversation_is_given_it_as_it_stands(style: str) -> None:
    assert rendered(Habits(Jinja(style), {}), [SYSTEM, HI, MORE]) in ("own words", "the rule", "the request")


def test_parts_only_templates_read_all_roles() -> None:
    text = rendered(Habits(Jinja(SMOLVLM), {}), [SYSTEM, HI, OK, MORE])
    assert text == (
        "System: the rule<end_of_utterance>\nUser: the question<end_of_utterance>\n"
        "Assistant: the answer<end_of_utterance>\nUser: the request<end_of_utterance>\nAssistant:"
    )
    mixed = SMOLVLM.replace("message.content %}", "(message.content if message.role == 'user' else []) %}").replace(
        "{{- '<end_of", "{{- message.content if message.role != 'user' }}{{- '<end_of"
    )
    assert "System:the rule" in rendered(Habits(Jinja(mixed), {}), [SYSTEM, HI, OK])


def test_a_turn_of_calls_alone_has_no_content_where_the_template_asks_for_that() -> None:
    text = rendered(Habits(Jinja(R1_DISTILL), {}), [HI, called("east"), result("east"), OK, MORE])
    assert text == (
        '<s><User>the question<Assistant><call>function<sep>look\n```json\n{"at": "east"}\n```</call></s>'
        "<output>the sight of east</output><Assistant>the answer</s><User>the request<Assistant><think>\n"
    )
    both = R1_DISTILL.replace("message['content'] is none %}", "message['tool_calls'] %}", 1)
    shown = rendered(Habits(Jinja(both), {}), [HI, called("east"), result("east"), OK, MORE])
    assert shown == text, "and no empty answer beside the calls"
    calls = "{% for call in m.tool_calls or [] %}{{ call | tojson }}{% endfor %}"
    prints = "{% for m in messages %}[{{ m.content }}" + calls + "]{% endfor %}"
    text = rendered(Habits(Jinja(prints), {}), [HI, called("east"), result("east")])
    assert text.startswith('[the question][{"'), "nothing is said, not 'None'"
    assert text.endswith("[the sight of east]")


PICTURE = Media("image", b"", 4, "messages[2].content[0]")
SHOWS = QWEN3.replace(
    "message.content + '<|im_end|>\\n' }}\n{%- elif message.role == 'assistant'",
    "(message.content if message.content is string else message.content | map(attribute='text', default='<image>')"
    " | join) + '<|im_end|>\\n' }}\n{%- elif message.role == 'assistant'",
)
SHOWS_ALL = SHOWS.replace(
    "message.content + '\\n</tool_response>",
    "(message.content if message.content is string else message.content | map(attribute='text', default='<image>')"
    " | join) + '\\n</tool_response>",
)


def marked(message: Message) -> Any:
    raise AssertionError("the template shows it")


def test_a_picture_in_a_result_is_shown_there_or_right_after_the_results() -> None:
    messages = [HI, called("east", "west"), result("east", PICTURE), result("west"), OK]
    prompt = ChatPrompt(tuple(messages))
    text, media = render_text(Habits(Jinja(SHOWS_ALL), {}, marked), prompt, None, {})
    assert "the <image>sight of east" in text
    assert media == [PICTURE]
    text, media = render_text(Habits(Jinja(SHOWS), {}, marked), prompt, None, {})
    assert "the [The image is shown after this result.]sight of east" in text
    assert text.index("sight of west") < text.index("<|im_start|>user\n<image><|im_end|>") < text.index("the answer")
    assert [(one.at, one.param) for one in media] == [(0, PICTURE.param)]
