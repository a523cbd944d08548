"""What tools gave and can't be shown becomes words; what users show never does."""

from __future__ import annotations

import pytest

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, Document, GenerationRequest, Media, Message
from mlx_server.schemas.left_out import excuse, over_limit, without

GONE = "[An image was here that is not shown any more.]"


def message(
    role: str, text: str, *pictures: tuple[bytes, int], documents: tuple[tuple[bytes, int], ...] = ()
) -> Message:
    return Message(
        role,
        text,
        media=tuple(Media("image", source, at, f"{role}.{source.decode()}") for source, at in pictures),
        documents=tuple(Document(source, at, f"{role}.{source.decode()}") for source, at in documents),
    )


def test_what_a_tool_gave_is_excused_with_the_reason() -> None:
    request = GenerationRequest((ChatPrompt((message("user", ""), message("tool", "ab", (b"x", 1)))),), 8)
    words = excuse(request, InvalidRequest("`tool.x`: this picture can't be read.", "tool.x"))
    told = without(request, words)
    [prompt] = told.prompts
    assert isinstance(prompt, ChatPrompt)
    said = "[An image is here that can't be shown: this picture can't be read.]"
    assert prompt.messages[1] == Message("tool", f"a{said}b")
    assert told.ignored == ("tool.x",)


@pytest.mark.parametrize("param", ["user.x", "tool.y", "messages", None])
def test_what_else_is_wrong_is_not(param: str | None) -> None:
    prompt = ChatPrompt((message("user", "", (b"x", 0)), message("tool", "", (b"x", 0))))
    assert excuse(prompt, InvalidRequest("`it`: no.", param)) == {}
    assert without(prompt, {}) is prompt


def test_only_the_tools_own_is_told_where_a_user_shows_the_same() -> None:
    prompt = ChatPrompt((message("user", "", (b"x", 0)), message("tool", "", (b"x", 0))))
    told = without(prompt, {b"x": "[gone]"})
    assert told.messages == (prompt.messages[0], Message("tool", "[gone]"))


def test_what_a_tool_gave_whose_call_is_gone_is_told_in_the_users_message() -> None:
    own, stray = Media("image", b"x", 0, "own"), Media("image", b"y", 1, "stray", stray=True)
    letter = Document(b"z", 2, "letter", stray=True)
    prompt = ChatPrompt((Message("user", "abc", media=(own, stray), documents=(letter,)),))
    assert excuse(prompt, InvalidRequest("`own`: no.", "own")) == {}
    words = excuse(prompt, InvalidRequest("`stray`: no.", "stray")) | {b"z": "[z]", b"x": "[x]"}
    [told] = without(prompt, words).messages
    assert told.content == "a[An image is here that can't be shown: no.]b[z]c"
    assert (told.media, told.documents) == ((own,), ())


def test_documents_and_pictures_keep_their_places_and_order() -> None:
    given = message("tool", "abc", (b"p", 2), documents=((b"d", 0), (b"e", 0), (b"f", 3)))
    [told] = without(ChatPrompt((given,)), {b"e": "[e]"}).messages
    assert told.content == "[e]abc"
    assert [(one.source, told.content[: one.at]) for one in told.media] == [(b"p", "[e]ab")]
    assert [(one.source, told.content[: one.at]) for one in told.documents] == [(b"d", ""), (b"f", "[e]abc")]


def session(turns: int, shown: int = 0) -> ChatPrompt:
    """A tool's picture in each turn, after `shown` of the user's."""
    own = [message("user", "", (f"own {n}".encode(), 0)) for n in range(shown)]
    return ChatPrompt((*own, *(message("tool", "", (f"{n}".encode(), 0)) for n in range(turns))))


@pytest.mark.parametrize(
    ("turns", "shown", "gone"),
    [(3, 0, 0), (4, 0, 0), (5, 0, 2), (6, 0, 2), (7, 0, 4), (4, 1, 2), (3, 5, 3), (0, 5, 0)],
)
def test_oldest_of_too_many_go_several_at_a_time(turns: int, shown: int, gone: int) -> None:
    prompt = session(turns, shown)
    words = over_limit(prompt, 4)
    assert dict(words) == {f"{n}".encode(): GONE for n in range(gone)}
    assert [bool(one.media) for one in without(prompt, words).messages] == [True] * shown + [
        n >= gone for n in range(turns)
    ]


def test_a_file_that_is_shown_again_and_again_is_one() -> None:
    prompt = ChatPrompt(tuple(message("tool", "", (b"x", 0)) for _ in range(9)))
    assert over_limit(prompt, 1) == {}
