from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.parsing.forms import FormDecoder


class Postcard(msgspec.Struct, frozen=True, kw_only=True):
    text: str = ""
    stamps: int | None = None
    friends: list[str] = []


DECODER = FormDecoder(Postcard, ("picture",), ("friends",), {"express": ("no",), "wax": ()})


def test_texts_become_what_the_type_wants_and_lists_may_be_repeated() -> None:
    texts = {"text": ["hello"], "stamps": ["2"], "friends": ["Ann", "Bob"], "express": ["no"]}
    assert DECODER.decode(texts, ["picture"]) == (Postcard(text="hello", stamps=2, friends=["Ann", "Bob"]), [])


def test_empty_text_says_nothing() -> None:
    texts = {"text": [""], "stamps": [""], "friends": [""], "picture": [""]}
    assert DECODER.decode(texts, []) == (Postcard(), [])


def test_texts_and_files_that_nobody_knows_are_named() -> None:
    assert DECODER.decode({"text": ["hello"], "colour": ["red"]}, ["map"]) == (
        Postcard(text="hello"),
        ["colour", "map"],
    )


REFUSED: dict[str, tuple[dict[str, list[str]], list[str], str, str]] = {
    "a field as a file": ({}, ["text"], "text", "has to be a text of the form, without a filename"),
    "a file as a text": ({"picture": ["cat.png"]}, [], "picture", "has to be a file of the form, with a filename"),
    "twice": ({"text": ["a", "b"]}, [], "text", "is given more than once"),
    "no number": ({"stamps": ["two"]}, [], "stamps", "Expected `int"),
    "not served": ({"express": ["yes"]}, [], "express", 'Leave it out, or set it to "no".'),
    "never served": ({"wax": ["red"]}, [], "wax", "Leave it out."),
    "not served as a file": ({}, ["wax"], "wax", "is not supported by this server"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_is_refused_by_name(name: str) -> None:
    texts, files, param, words = REFUSED[name]
    with pytest.raises(InvalidRequest) as refused:
        DECODER.decode(texts, files)
    told: Any = refused.value
    assert (told.param, words in told.message) == (param, True), told.message
