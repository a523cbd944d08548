"""A text in a JSON object is told while it is written, wherever it is cut; what is no such object is told as it is."""

import json
import random

import pytest

from mlx_server.app.encoders.json_string import JsonString

LOST = "\N{REPLACEMENT CHARACTER}"
TEXTS = ["", "a", 'x\n"q" \\ / \t\r\b\f', "é \N{GRINNING FACE} \u2028", "*** Begin Patch\n+a\n*** End Patch\n"]


def pieces(text: str, seed: int) -> list[str]:
    rng = random.Random(seed)
    cut: list[str] = []
    while (at := sum(map(len, cut))) < len(text):
        cut.append(text[at : at + (1 if seed == 0 else rng.choice((1, 2, 3, 7)))])
    return cut


def told(text: str, seed: int) -> str:
    reader = JsonString("input")
    return "".join([reader.feed(piece) for piece in pieces(text, seed)]) + reader.end()


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_text_is_the_same_wherever_it_is_cut(text: str, ascii_only: bool) -> None:
    written = json.dumps({"input": text}, ensure_ascii=ascii_only)
    assert {told(written, seed) for seed in range(20)} == {text}
    assert told(f'\n{{ "input" :\t{json.dumps(text)} }}', 1) == text


ODD = [
    ('{"input":"a\\ud83d"}', f"a{LOST}"),
    ('{"input":"\\ud83dx\\ude00"}', f"{LOST}x{LOST}"),
    ('{"input":"\\ud83d\\ud83d\\ude00"}', f"{LOST}\N{GRINNING FACE}"),
    ('{"input":"\\q \\u12"}', "\\q \\u12"),
    ('{"input":"raw\nline"}', "raw\nline"),
    ('{"input":"cut off', "cut off"),
    ('{"input":"cut off\\', "cut off"),
    ('{"input":"cut off\\u00', "cut off"),
    ('{"input":"a","more":"b"}', "a"),
    ('{"more":"b","input":"a"}', "a"),
    ('"a"', "a"),
    ('{"patch":"a"}', '{"patch":"a"}'),
    ('{"input":["a"]}', '{"input":["a"]}'),
    ("*** Begin Patch", "*** Begin Patch"),
    ('{"inp', '{"inp'),
    ("", ""),
]


@pytest.mark.parametrize(("written", "text"), ODD)
def test_odd_arguments_lose_nothing(written: str, text: str) -> None:
    assert {told(written, seed) for seed in range(20)} == {text}
    text.encode()


def test_text_is_told_as_soon_as_it_is_certain() -> None:
    reader = JsonString("input")
    fed = [reader.feed(piece) for piece in ('{"in', 'put":"a', "b\\", "nc\\ud83d", "\\ude00", '"}', " ")]
    assert fed == ["", "a", "b", "\nc", "\N{GRINNING FACE}", "", ""]
