"""Texts in pieces to be spoken."""

from __future__ import annotations

import pytest

from mlx_server.workers.engine.speak.sentences import LONGEST, is_spoken, sentences


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello. How are you?", ["Hello.", "How are you?"]),
        ("Dr. Smith paid $3.50 at 9 a.m. on Jan. 5.", ["Dr. Smith paid $3.50 at 9 a.m. on Jan. 5."]),
        ("One line\nanother line\n\n", ["One line", "another line"]),
        ("  \n ", []),
        ("no end", ["no end"]),
    ],
)
def test_sentences_are_whole(text: str, pieces: list[str]) -> None:
    assert sentences(text, "en") == pieces


@pytest.mark.parametrize("text", ["word, " * 200, "word " * 200, "w" * 1000])
def test_long_sentences_are_cut_and_nothing_is_lost(text: str) -> None:
    pieces = sentences(text, "en")
    assert all(0 < len(piece) <= LONGEST for piece in pieces)
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")


def test_other_languages_have_their_own_ends() -> None:
    assert sentences("\u79c1\u306f\u5b66\u751f\u3067\u3059\u3002\u5f7c\u306f\u5148\u751f\u3067\u3059\u3002", "ja") == [
        "\u79c1\u306f\u5b66\u751f\u3067\u3059\u3002",
        "\u5f7c\u306f\u5148\u751f\u3067\u3059\u3002",
    ]
    assert sentences("Hello. You.", "a language that nobody knows") == ["Hello.", "You."]


def test_some_texts_have_nothing_that_is_read_aloud() -> None:
    assert all(map(is_spoken, ("a", "7", "%", "$", "\N{GRINNING FACE}", "\u79c1", "... a")))
    assert not any(map(is_spoken, ("", " \n", "...!?", "\0\x01", "\u200b", "\N{EM DASH}")))
