"""Stop strings, however a text is cut, against a search in the whole of it."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mlx_server.workers.engine.output.detokenize import StopScanner

LETTERS = "ab\n"
"""Few, so that stop strings overlap each other and themselves."""

texts = st.text(LETTERS, max_size=30)
stop_strings = st.lists(st.text(LETTERS, min_size=1, max_size=4), max_size=4).map(tuple)


def expected(text: str, stops: tuple[str, ...], *, include: bool) -> tuple[str, str | None]:
    """What is said of a text, and the stop string that is complete first; of several, the longest."""
    for end in range(len(text) + 1):
        met = max((stop for stop in stops if text[:end].endswith(stop)), key=len, default=None)
        if met is not None:
            return text[: end if include else end - len(met)], met
    return text, None


@given(text=texts, stops=stop_strings, cuts=st.lists(st.integers(0, 30)), include=st.booleans())
def test_stop_string_that_is_complete_first_ends_the_text(
    text: str, stops: tuple[str, ...], cuts: list[int], include: bool
) -> None:
    scanner = StopScanner(stops, include=include)
    places = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    said = "".join(scanner.feed(text[a:b]) for a, b in pairwise(places)) + scanner.flush()
    assert (said, scanner.met) == expected(text, stops, include=include)


@given(text=texts, stops=stop_strings)
def test_nothing_is_held_back_that_can_not_begin_a_stop_string(text: str, stops: tuple[str, ...]) -> None:
    scanner = StopScanner(stops)
    said = "".join(map(scanner.feed, text))
    if scanner.met is None:
        held = text.removeprefix(said)
        assert held == "" or any(stop.startswith(held) for stop in stops)
