"""Documents whose pages are pictures: everything has its place in the message's text."""

from mlx_server.schemas.internal.documents import ILLUSTRATED_ROLES, Illustrated, documents_of, filled
from mlx_server.schemas.internal.generation import ChatPrompt, Document, Media, Message


def test_pictures_of_pages_stand_in_order_among_those_of_the_client() -> None:
    first, second = Document(b"1", 1, "first"), Document(b"2", 2, "second")
    media = (Media("image", b"a", 0, "a"), Media("image", b"b", 2, "b"), Media("image", b"c", 3, "c"))
    given = Message("user", "[]!", media=media, documents=(first, second), marks=(1, 3))
    told = filled(given, {first: Illustrated("x\n\ny", ((0, b"p"), (3, b"q"))), second: "zz"})
    assert told.content == "[x\n\ny]zz!"
    places = [(one.source, told.content[: one.at]) for one in told.media]
    assert places == [(b"a", ""), (b"p", "["), (b"q", "[x\n\n"), (b"b", "[x\n\ny]"), (b"c", "[x\n\ny]zz!")]
    assert [(one.kind, one.param) for one in told.media[1:3]] == [("image", "first")] * 2
    assert told.marks == (1, 9)
    assert not told.documents


def test_documents_of_roles_are_those_that_may_hold_pictures() -> None:
    roles = ("system", "user", "assistant", "tool")
    prompt = ChatPrompt(tuple(Message(role, "", documents=(Document(b"", 0, role),)) for role in roles))
    assert [one.param for one in documents_of(prompt)] == [*roles]
    assert [one.param for one in documents_of(prompt, ILLUSTRATED_ROLES)] == ["user", "tool"]
