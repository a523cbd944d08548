"""Pictures, sounds and films in the messages of all three APIs."""

import json
from typing import Any

import pytest

from mlx_server.schemas import tokens
from mlx_server.schemas.anthropic import requests as anthropic
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, Media, Message, Prompt, Remote
from mlx_server.schemas.openai import chat as openai_chat
from mlx_server.schemas.openai import responses as openai_responses
from mlx_server.schemas.openai.responses import Turn

URL = "https://example.com/a.png"
PICTURE = {"type": "image_url", "image_url": {"url": URL}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def of_chat(prompt: Prompt) -> tuple[Message, ...]:
    assert isinstance(prompt, ChatPrompt)
    return prompt.messages


def chat(*messages: Any) -> tuple[Message, ...]:
    given = openai_chat.decoder.decode(json.dumps({"messages": messages}))
    return of_chat(given.to_generation(16).prompts[0])


def shown(*parts: Any) -> Message:
    return chat({"role": "user", "content": parts})[0]


def responses(*items: Any) -> tuple[Message, ...]:
    given = openai_responses.decoder.decode(json.dumps({"input": items}))
    return of_chat(Turn(given).to_generation(16).prompts[0])


def claude(*messages: Any) -> tuple[Message, ...]:
    given = anthropic.decoder.decode(json.dumps({"max_tokens": 9, "messages": messages}))
    return of_chat(given.to_generation(16).prompts[0])


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


@pytest.mark.parametrize(
    ("part", "kind", "url"),
    [
        (PICTURE, "image", URL),
        ({"type": "image_url", "image_url": URL}, "image", URL),
        ({"type": "input_image", "image_url": URL}, "image", URL),
        ({"type": "input_image", "image_url": {"url": URL}}, "image", URL),
        ({"type": "image", "image": URL}, "image", URL),
        ({"type": "image", "source": {"type": "url", "url": URL}}, "image", URL),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
            "image",
            "data:image/png;base64,AAAA",
        ),
        ({"type": "image_url", "image_url": "iVBORw0KGgo="}, "image", "data:;base64,iVBORw0KGgo="),
        ({"type": "image_url", "image_url": {"url": "file:///a.png"}}, "image", "file:///a.png"),
        ({"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}, "audio", "data:;base64,UklG"),
        ({"type": "audio_url", "audio_url": {"url": URL}}, "audio", URL),
        ({"type": "video_url", "video_url": {"url": URL}}, "video", URL),
        ({"type": "video", "video": URL}, "video", URL),
    ],
    ids=str,
)
def test_parts_of_chats_are_media(part: dict[str, Any], kind: Any, url: str) -> None:
    assert shown(part) == Message("user", "", media=(Media(kind, Remote(url), 0, "messages[0].content[0]"),))


@pytest.mark.parametrize(
    ("part", "detail"),
    [
        ({"image_url": {"url": URL, "detail": "low"}}, "low"),
        ({"image_url": {"url": URL, "detail": "high"}}, "high"),
        ({"image_url": {"url": URL, "detail": "original"}}, "high"),
        ({"image_url": {"url": URL, "detail": "auto"}}, "auto"),
        ({"image_url": {"url": URL, "detail": None}}, "auto"),
        ({"image_url": URL, "detail": "low"}, "low"),
    ],
)
def test_detail_has_four_names_for_three_things(part: dict[str, Any], detail: str) -> None:
    assert shown({"type": "image_url", **part}).media[0].detail == detail


def test_media_stand_at_their_places_in_the_text() -> None:
    message = shown(PICTURE, text("åbc"), PICTURE, PICTURE, text("de"), PICTURE)
    assert message.content == "åbcde"
    assert [one.at for one in message.media] == [0, 3, 3, 5]
    assert [one.param for one in message.media] == [f"messages[0].content[{i}]" for i in (0, 2, 3, 5)]


def test_several_turns_and_tools_may_show_something() -> None:
    messages = chat(
        {"role": "user", "content": [PICTURE]},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "content": [text("a"), PICTURE]},
        {"role": "function", "name": "f", "content": [PICTURE]},
    )
    assert [[one.param for one in message.media] for message in messages] == [
        ["messages[0].content[0]"],
        [],
        ["messages[2].content[1]"],
        ["messages[3].content[0]"],
    ]


def test_tokenizing_sees_the_same() -> None:
    given = tokens.tokenize_decoder.decode(json.dumps({"messages": [{"role": "user", "content": [PICTURE]}]}))
    assert of_chat(given.question().prompt) == (shown(PICTURE),)


def test_responses_show_pictures_and_sounds() -> None:
    picture = {"type": "input_image", "image_url": URL, "detail": "low"}
    sound = {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}
    words = {"type": "input_text", "text": "ab"}
    called = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    told = {"type": "function_call_output", "call_id": "1", "output": [words, picture]}
    messages = responses({"role": "user", "content": [words, picture, words, sound]}, called, told)
    first = Media("image", Remote(URL), 2, "input[0].content[1]", "low")
    second = Media("audio", Remote("data:;base64,UklG"), 4, "input[0].content[3]")
    assert messages[0] == Message("user", "abab", media=(first, second))
    assert messages[2].media == (Media("image", Remote(URL), 2, "input[2].output[1]", "low"),)


def test_kept_items_show_what_they_showed() -> None:
    item = {"role": "user", "content": [{"type": "input_image", "image_url": {"url": URL, "detail": "original"}}]}
    earlier = Turn(openai_responses.decoder.decode(json.dumps({"input": [item]})))
    turn = Turn(openai_responses.decoder.decode(json.dumps({"input": "And now?"})), earlier.items)
    messages = of_chat(turn.to_generation(16).prompts[0])
    assert messages[0].media == (Media("image", Remote(URL), 0, "previous_response_id", "high"),)
    assert messages[1].content == "And now?"


def block(url: str = URL) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "url", "url": url}}


def test_claudes_turns_show_pictures() -> None:
    data = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    (message,) = claude({"role": "user", "content": [text("ab"), block(), {"type": "image", "source": data}]})
    first = Media("image", Remote(URL), 2, "messages[0].content[1]")
    second = Media("image", Remote("data:image/png;base64,AAAA"), 2, "messages[0].content[2]")
    assert message == Message("user", "ab", media=(first, second))


def test_claudes_neighbouring_turns_keep_the_places() -> None:
    (message,) = claude(
        {"role": "user", "content": [block()]},
        {"role": "user", "content": [text("ab"), block()]},
        {"role": "user", "content": [text("c"), block(), text("d")]},
    )
    assert message.content == "ab\n\ncd"
    assert [one.at for one in message.media] == [0, 2, 5]
    assert [one.param for one in message.media] == [f"messages[{i}].content[{j}]" for i, j in ((0, 0), (1, 1), (2, 1))]


@pytest.mark.parametrize(("failed", "said", "at"), [(False, "seen", 4), (True, "Error: seen", 11)])
def test_claudes_tools_show_pictures(failed: bool, said: str, at: int) -> None:
    result = {"type": "tool_result", "tool_use_id": "1", "is_error": failed, "content": [text("seen"), block()]}
    messages = claude(
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
        {"role": "user", "content": [result, block(), text("well?")]},
    )
    assert (messages[2].role, messages[2].content) == ("tool", said)
    assert messages[2].media == (Media("image", Remote(URL), at, "messages[2].content[0].content[1]"),)
    assert messages[3] == Message("user", "well?", media=(Media("image", Remote(URL), 0, "messages[2].content[1]"),))


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"type": "input_text", "text": "a", "image_url": URL}, "image_url"),
        ({"type": "input_text", "text": "a", "file_id": "a"}, "file_id"),
        ({"type": "input_image", "image_url": URL, "text": "a"}, "text"),
        ({"type": "input_image", "image_url": {}}, "image_url.url"),
        ({"type": "input_audio", "input_audio": {"data": "UklG"}, "detail": "low"}, "detail"),
    ],
    ids=str,
)
def test_responses_name_fields_that_belong_elsewhere(part: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        responses({"role": "user", "content": [part]})
    assert caught.value.param == f"input[0].content[0].{field}"


@pytest.mark.parametrize(
    ("part", "field"), [(block() | {"text": "a"}, "text"), (text("a") | {"source": block()["source"]}, "source")]
)
@pytest.mark.parametrize("inside", [False, True])
def test_claude_names_fields_that_belong_elsewhere(part: dict[str, Any], field: str, inside: bool) -> None:
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]}
    result = {"type": "tool_result", "tool_use_id": "1", "content": [part]}
    with pytest.raises(InvalidRequest) as caught:
        claude(*([call, {"role": "user", "content": [result]}] if inside else [{"role": "user", "content": [part]}]))
    place = "messages[1].content[0].content[0]" if inside else "messages[0].content[0]"
    assert caught.value.param == f"{place}.{field}"


def test_space_around_a_url_is_none_of_it() -> None:
    assert shown({"type": "image_url", "image_url": f" {URL}\n"}).media == shown(PICTURE).media
    assert claude({"role": "user", "content": [block(f"\t{URL} ")]})[0].media == shown(PICTURE).media


def test_a_source_must_be_a_picture() -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}
    with pytest.raises(InvalidRequest) as caught:
        claude({"role": "user", "content": [{"type": "image", "source": source}]})
    assert caught.value.param == "messages[0].content[0].source.media_type"
