import random
from pathlib import Path
from typing import Any

import pytest

from mlx_server.workers.engine.output.detokenize import DetokenizedText, StopScanner, follow, overlap, unknown_tokens

FAMILY, FLAG = "👨‍👩‍👧‍👦", "🇩🇪"


def _before_first_stop(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """The naive way: one character at a time, until the text ends with a stop string; the longest one is cut off."""
    for end in range(len(text) + 1):
        met = [stop for stop in stops if text[:end].endswith(stop)]
        if met:
            return text[: end - max(map(len, met))], True
    return text, False


def _scan(scanner: StopScanner, pieces: list[str]) -> str:
    return "".join(scanner.feed(piece) for piece in pieces) + scanner.flush()


def _cut(rng: random.Random, text: str) -> list[str]:
    cuts = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(8)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_scanner_finds_a_single_stop_where_find_does(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(2000):
        text = "".join(rng.choices("abc", k=rng.randrange(30)))
        stop = "".join(rng.choices("abc", k=rng.randint(1, 5)))
        at = text.find(stop)
        scanner = StopScanner((stop,))
        assert _scan(scanner, _cut(rng, text)) == (text if at < 0 else text[:at]), (text, stop)
        assert (scanner.met is not None) == (at >= 0)


@pytest.mark.parametrize("seed", range(5))
def test_scanner_finds_the_same_of_several_stops_wherever_the_text_is_cut(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(2000):
        text = "".join(rng.choices("abü🙂", k=rng.randrange(30)))
        stops = tuple("".join(rng.choices("abü🙂", k=rng.randint(1, 5))) for _ in range(rng.randint(1, 4)))
        expected, stopped = _before_first_stop(text, stops)
        scanner = StopScanner(stops)
        assert _scan(scanner, _cut(rng, text)) == expected, (text, stops)
        assert (scanner.met is not None) == stopped


@pytest.mark.parametrize("pieces", [["xabcd"], ["xabc", "d"], list("xabcd")], ids=str)
def test_scanner_takes_the_stop_that_is_complete_first(pieces: list[str]) -> None:
    assert _scan(StopScanner(("abcd", "bc")), pieces) == "xa"


def test_scanner_holds_back_only_what_may_become_a_stop() -> None:
    scanner = StopScanner(("</end>", "\n\n"))
    assert scanner.feed("one") == "one"
    assert scanner.feed(" </") == " "
    assert scanner.feed("b>\n") == "</b>"
    assert scanner.feed("two") == "\ntwo"
    assert scanner.feed("\n\nthree") == ""
    assert scanner.met is not None


def test_scanner_says_which_stop_it_met_and_may_include_it() -> None:
    scanner = StopScanner(("end", "stop"), include=True)
    assert scanner.feed("so st") == "so "
    assert scanner.feed("op it") == "stop"
    assert scanner.met == "stop"


def test_scanner_says_nothing_after_a_stop() -> None:
    scanner = StopScanner(("x",))
    assert scanner.feed("axb") == "a"
    assert scanner.feed("c") == ""
    assert scanner.flush() == ""


def test_scanner_without_stops_holds_nothing_back() -> None:
    scanner = StopScanner(())
    assert scanner.feed("anything") == "anything"
    assert scanner.flush() == ""
    assert scanner.met is None


@pytest.mark.parametrize(
    ("text", "stop", "length"),
    [
        ("", "abc", 0),
        ("abc", "abc", 0),
        ("ab", "abc", 2),
        ("xxa", "abc", 1),
        ("xaba", "ababc", 3),
        ("aaaa", "aaab", 3),
        ("aaaa", "aaaa", 3),
        ("abcx", "abc", 0),
        ("a", "a", 0),
    ],
)
def test_overlap_is_the_longest_proper_beginning_at_the_end(text: str, stop: str, length: int) -> None:
    assert overlap(text, stop) == length


@pytest.fixture(scope="module")
def tokenizer(smollm2: Path) -> Any:
    from mlx_lm.utils import load_tokenizer

    return load_tokenizer(smollm2)


def _text(tokenizer: Any) -> DetokenizedText:
    return DetokenizedText(tokenizer.detokenizer, frozenset())


@pytest.mark.model
@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox.",
        f"Emoji {FAMILY} {FLAG} 🙂🙂 end",
        "日本語のテキスト、漢字 と かな。",
        "Größe, naïve, Ωμέγα, עברית",
        "  two spaces,\ttab,\n\nnewlines  ",
        "def f(x):\n    return x\n",
    ],
)
def test_tokens_become_their_text_piece_by_piece(tokenizer: Any, text: str) -> None:
    tokens = tokenizer.encode("x" + text)
    stream = _text(tokenizer)
    pieces = [stream.add(token) for token in tokens]
    assert "".join(pieces) + stream.finish() == "x" + text
    assert all("\ufffd" not in piece for piece in pieces)


@pytest.mark.model
def test_a_character_of_several_tokens_comes_whole(tokenizer: Any) -> None:
    tokens = tokenizer.encode("🦖")
    assert len(tokens) > 1
    stream = _text(tokenizer)
    assert [stream.add(token) for token in tokens] == [""] * (len(tokens) - 1) + ["🦖"]
    assert stream.finish() == ""


@pytest.mark.model
def test_a_character_that_was_cut_off_ends_as_a_replacement(tokenizer: Any) -> None:
    stream = _text(tokenizer)
    assert stream.add(tokenizer.encode("🦖")[0]) == ""
    assert stream.finish() == "\ufffd"


@pytest.mark.model
def test_a_continuation_keeps_the_space_it_begins_with(tokenizer: Any) -> None:
    prompt, rest = tokenizer.encode("Once upon a"), tokenizer.encode(" time there")
    detokenizer = tokenizer.detokenizer
    follow(detokenizer, prompt[-4:])
    continued = DetokenizedText(detokenizer, frozenset())
    assert "".join(map(continued.add, rest)) == " time there"
    answer = _text(tokenizer)
    assert "".join(map(answer.add, rest)) == "time there"


@pytest.mark.model
def test_a_continuation_may_follow_half_a_character(tokenizer: Any) -> None:
    first, *rest = tokenizer.encode("🦖")
    detokenizer = tokenizer.detokenizer
    follow(detokenizer, [first])
    continued = DetokenizedText(detokenizer, frozenset())
    tokens = rest + tokenizer.encode(" roars")
    assert ("".join(map(continued.add, tokens)) + continued.finish()).endswith(" roars")


@pytest.mark.model
def test_ids_that_pad_the_vocabulary_are_unknown(tokenizer: Any) -> None:
    assert unknown_tokens(tokenizer, len(tokenizer) + 10) == set(range(len(tokenizer), len(tokenizer) + 10))
    assert unknown_tokens(tokenizer, len(tokenizer)) == set()


@pytest.mark.model
def test_silent_tokens_have_no_text_and_do_not_tear_a_character_apart(tokenizer: Any) -> None:
    silent = frozenset(tokenizer.all_special_ids)
    stream = DetokenizedText(tokenizer.detokenizer, silent)
    first, *rest = tokenizer.encode("🦖")
    assert [stream.add(token) for token in (first, min(silent), *rest)][-1] == "🦖"
    assert [stream.add(token) for token in sorted(silent)] == [""] * len(silent)
    assert stream.finish() == ""


@pytest.mark.model
def test_streams_share_one_token_map(tokenizer: Any) -> None:
    one, other = tokenizer.detokenizer, tokenizer.detokenizer
    assert one is not other
    assert one.tokenmap is other.tokenmap
