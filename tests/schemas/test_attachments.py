"""What tools show to models without eyes or ears becomes words."""

from __future__ import annotations

from msgspec.structs import replace

from mlx_server.schemas.attachments import without_unseen
from mlx_server.schemas.internal.generation import (
    ChatPrompt,
    Document,
    GenerationRequest,
    Media,
    MediaKind,
    Message,
    TextPrompt,
)


def shown(role: str, text: str, *places: tuple[MediaKind, int]) -> Message:
    return Message(role, text, media=tuple(Media(kind, b"", at, f"{role}.{kind}") for kind, at in places))


RESULT = shown("tool", "abcd", ("image", 1), ("audio", 3))
USER = shown("user", "abcd", ("image", 1))
IMAGE, SOUND = "[An image is here; this model can't see images.]", "[A sound is here; this model can't hear sounds.]"


def test_words_stand_where_the_media_were_and_requests_name_them() -> None:
    request = GenerationRequest((ChatPrompt((USER, RESULT)), TextPrompt("x")), 8, ignored=("other",))
    told = without_unseen(request, ())
    assert isinstance(told.prompts[0], ChatPrompt)
    assert told.prompts[0].messages == (USER, Message("tool", f"a{IMAGE}bc{SOUND}d"))
    assert told.prompts[1] == TextPrompt("x")
    assert told.ignored == ("other", "tool.image", "tool.audio")


def test_media_that_are_taken_move_with_the_words_before_them() -> None:
    told = without_unseen(ChatPrompt((RESULT,)), ("audio",))
    [message] = told.messages
    assert message.content == f"a{IMAGE}bcd"
    assert [(one.kind, message.content[one.at :]) for one in message.media] == [("audio", "d")]


def test_documents_and_marks_keep_their_places() -> None:
    result = replace(RESULT, documents=(Document(b"", 0, "a"), Document(b"", 2, "b")), marks=(2, 4))
    [message] = without_unseen(ChatPrompt((result,)), ()).messages
    assert [message.content[one.at :][:1] for one in message.documents] == ["a", "c"]
    assert [message.content[:mark][-1:] for mark in message.marks] == ["b", "d"]


def test_what_is_all_taken_stays_the_same() -> None:
    request = GenerationRequest((ChatPrompt((USER, RESULT)),), 8)
    assert without_unseen(request, ("image", "audio")) is request
    assert without_unseen(ChatPrompt((USER,)), ()) == ChatPrompt((USER,))
