import re

import pytest
from jinja2 import Environment

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Media, Message
from mlx_server.workers.engine.prompt.templates.content import ContentForm, joined, parts, wrapped
from mlx_server.workers.engine.prompt.templates.kinds import Conversation
from mlx_server.workers.engine.prompt.templates.seeing import probe_content

PICTURE = {"type": "image"}


def _message(text: str, *places: int) -> Message:
    return Message("user", text, media=tuple(Media("image", b"", at, "param") for at in places))


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (_message("ab"), [_text("ab")]),
        (_message("ab", 0), [PICTURE, _text("ab")]),
        (_message("ab", 2), [_text("ab"), PICTURE]),
        (_message("ab", 0, 1, 1, 2), [PICTURE, _text("a"), PICTURE, PICTURE, _text("b"), PICTURE]),
        (_message("", 0, 0), [PICTURE, PICTURE]),
        (_message(""), []),
    ],
)
def test_a_text_is_cut_where_its_pictures_stand(message: Message, expected: list[dict[str, str]]) -> None:
    assert parts(message) == expected


def test_texts_that_meet_become_one() -> None:
    assert joined("a", "b") == "ab"
    assert joined([PICTURE, _text("a")], "b") == [PICTURE, _text("ab")]
    assert joined("a", [PICTURE]) == [_text("a"), PICTURE]
    assert joined([PICTURE], "") == [PICTURE]


def test_pictures_keep_their_places_in_a_text_that_is_wrapped() -> None:
    assert parts(wrapped(_message("ab", 1), "<", ">")) == [_text("<a"), PICTURE, _text("b>")]


class _Template:
    """A template of Jinja's."""

    adds_special_tokens = opaque = False

    def __init__(self, text: str) -> None:
        self._template = Environment().from_string(text)

    def variables(self) -> frozenset[str]:
        return frozenset()

    def thinks(self) -> bool:
        return False

    def render(self, conversation: Conversation) -> str:
        try:
            return self._template.render(messages=conversation.messages)
        except TypeError as error:
            raise InvalidRequest(str(error), "messages") from None


PART = "{% if p.type == 'image' %}<image>{% elif p.text %}{{ p.text }}{% endif %}"
PARTS = "{% for p in messages[0].content %}" + PART + "{% endfor %}"
TEXT = "{{ messages[0].content }}"
CONCATENATED = "{{ 'user: ' + messages[0].content }}"
TEXT_PARTS = "{% for p in messages[0].content if p.text %}{{ p.text }}{% endfor %}"
EITHER = "{% if messages[0].content is string %}" + TEXT + "{% else %}" + PARTS + "{% endif %}"


@pytest.mark.parametrize(
    ("template", "lists", "shows"),
    [
        (EITHER, False, True),
        (PARTS, True, True),
        (TEXT, False, False),
        (CONCATENATED, False, False),
        (TEXT_PARTS, True, False),
    ],
)
def test_what_a_template_does_with_content_is_found_out_by_trying(template: str, lists: bool, shows: bool) -> None:
    form = probe_content(_Template(template), {}, lambda message: f"<marked>{message.content}")
    plain, pictured = form.of(_message("ab")), form.of(_message("ab", 1))
    assert plain == ([_text("ab")] if lists else "ab")
    assert pictured == ([_text("a"), PICTURE, _text("b")] if shows else "<marked>ab")
    rendered = _Template(template).render(Conversation([{"role": "user", "content": plain}]))
    assert re.search("ab$", rendered)


@pytest.mark.parametrize("kind", ["image", "audio"])
def test_what_a_template_does_not_show_is_marked(kind: str) -> None:
    other = {"image": "audio", "audio": "image"}[kind]
    template = EITHER.replace("'image'", f"'{kind}'")
    form = probe_content(_Template(template), {}, lambda message: f"<marked>{message.content}")
    assert form.shows == {kind}
    for media, expected in ((kind, [{"type": kind}, _text("ab")]), (other, "<marked>ab")):
        assert form.of(Message("user", "ab", media=(Media(media, b"", 0, "param"),))) == expected


def test_without_a_form_content_is_what_openai_has() -> None:
    assert ContentForm().of(_message("ab")) == "ab"
    assert ContentForm().of(_message("ab", 0)) == [PICTURE, _text("ab")]
