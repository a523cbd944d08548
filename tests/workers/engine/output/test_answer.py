"""Tokens of a real tokenizer as the parts of an answer."""

import random
from pathlib import Path
from typing import Any

import pytest

from mlx_server.schemas.internal.generation import Limits
from mlx_server.schemas.internal.messages import Part, PromptReport, Reasoning, Text, TokenLogprob, ToolCall
from mlx_server.workers.engine.output.answer import Answer
from mlx_server.workers.engine.output.detokenize import DetokenizedText
from mlx_server.workers.engine.output.tool_calls.markup import Called, Piece, PlainText, Thought, VisibleText
from mlx_server.workers.engine.sequence import Echoed, Sequence, Token

pytestmark = pytest.mark.model

TEXT = "The quick brown fox jumps over 🦖 the lazily sleeping dog"


@pytest.fixture(scope="module")
def tokenizer(smollm2: Path) -> Any:
    from mlx_lm.utils import load_tokenizer

    return load_tokenizer(smollm2)


def _describe(token: int, logprob: float | None) -> TokenLogprob:
    return TokenLogprob(str(token), b"", logprob)


def _answer(tokenizer: Any, limits: Limits | None = None, markup: Any = None, **more: Any) -> Answer:
    sequence = Sequence((1, 0), [5, 6, 7], 100, limits=limits or Limits(), **more)
    text = DetokenizedText(tokenizer.detokenizer, frozenset(tokenizer.all_special_ids))
    return Answer(sequence, text, markup or PlainText(), _describe)


def _say(answer: Answer, tokens: list[int], *, end: str = "length", logprobs: bool = False) -> list[Part]:
    """All tokens, the last one with a finish reason, until the answer has one."""
    parts: list[Part] = []
    for i, token in enumerate(tokens):
        finish: Any = end if i == len(tokens) - 1 else None
        parts += answer.add(Token((1, 0), token, finish, -1.0 if logprobs else None))
        if answer.finish:
            break
    return parts


def _text(parts: list[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text))


@pytest.mark.parametrize("stop", ["brown fox", "own f", "k b", "n fox jumps over", " ", "🦖 t", "ly"])
@pytest.mark.parametrize("include", [False, True])
def test_stop_strings_are_met_across_tokens(tokenizer: Any, stop: str, include: bool) -> None:
    answer = _answer(tokenizer, Limits(stop=(stop,), include_stop=include))
    seen = ""
    for token in tokenizer.encode(TEXT):
        seen += _text(answer.add(Token((1, 0), token)))
        assert TEXT.startswith(seen)
        if answer.finish:
            break
    assert answer.finish == "stop"
    assert seen == TEXT.partition(stop)[0] + (stop if include else "")
    assert answer.finished().stop == stop


def test_a_least_length_holds_stop_strings_back(tokenizer: Any) -> None:
    answer = _answer(tokenizer, Limits(stop=(" ",), min_tokens=4))
    tokens = tokenizer.encode("one two three four five six")
    assert _text(_say(answer, tokens)) == "one two three"
    assert answer.finished().completion_tokens == 4


def test_text_that_only_looks_like_a_stop_is_not_lost(tokenizer: Any) -> None:
    answer = _answer(tokenizer, Limits(stop=("lazy cat", "dogs")))
    assert _text(_say(answer, tokenizer.encode("over the lazy dog"))) == "over the lazy dog"
    assert (answer.finish, answer.finished().stop) == ("length", None)


def test_a_stop_may_be_met_in_text_that_was_held_back(tokenizer: Any) -> None:
    answer = _answer(tokenizer, Limits(stop=(" ",)))
    tokens = tokenizer.encode("word") + tokenizer.encode(" ")
    assert _text(_say(answer, tokens)) == "word"
    assert answer.finish == "stop"


@pytest.mark.parametrize("end", ["stop", "length"])
def test_every_token_is_counted_once(tokenizer: Any, end: str) -> None:
    rng = random.Random(3)
    for _ in range(50):
        tokens = [rng.randrange(3, 40_000) for _ in range(rng.randint(1, 12))]
        answer = _answer(tokenizer, Limits(stop=("e ",)))
        parts = _say(answer, tokens, end=end)
        assert sum(part.tokens for part in parts) == answer.finished().completion_tokens


def test_tokens_are_counted_though_all_they_say_is_held_back(tokenizer: Any) -> None:
    tokens = tokenizer.encode("a b" * 300)[:150]
    parts = _say(_answer(tokenizer, Limits(stop=("a b" * 400,))), tokens)
    *counts, last = parts
    assert [(part.text, part.tokens) for part in counts if isinstance(part, Text)] == [("", 64), ("", 64)]
    assert isinstance(last, Text)
    assert (last.text, last.tokens) == (tokenizer.decode(tokens), 22)


def test_a_token_that_ends_the_sequence_has_no_text(tokenizer: Any) -> None:
    answer = _answer(tokenizer)
    dog, end = tokenizer.encode("dog")[0], tokenizer.encode(" cat")[0]
    assert _text(_say(answer, [dog, end], end="stop")) == "dog"
    assert answer.finished().completion_tokens == 2


@pytest.mark.parametrize("include", [False, True])
def test_a_stop_token_is_named_and_shown_if_asked_for(tokenizer: Any, include: bool) -> None:
    dog, end = tokenizer.encode("dog")[0], tokenizer.encode(" cat")[0]
    answer = _answer(tokenizer, Limits(stop_token_ids=(end,), include_stop=include))
    assert _text(_say(answer, [dog, end], end="stop")) == ("dog cat" if include else "dog")
    assert answer.finished().stop == str(end)


@pytest.mark.parametrize("stop", [(), ("brown",), (" fox",), ("🦖",), ("dog",)])
def test_reported_tokens_are_those_whose_text_is_sent(tokenizer: Any, stop: tuple[str, ...]) -> None:
    tokens = tokenizer.encode(TEXT)
    answer = _answer(tokenizer, Limits(stop=stop), logprobs=0)
    parts = _say(answer, tokens, logprobs=True)
    reported = [int(chosen.token.text) for part in parts if isinstance(part, Text) for chosen in part.logprobs]
    shown = _text(parts)
    assert reported == tokens[: len(reported)]
    assert tokenizer.decode(reported).startswith(shown.rstrip(" "))
    assert len(tokenizer.decode(reported[:-3])) <= len(shown), "at most a character that was torn apart is too much"
    assert answer.finished().mean_logprob == -1.0


def test_an_echo_reports_the_prompt_without_a_value_for_its_first_token(tokenizer: Any) -> None:
    answer = _answer(tokenizer, echo="prompt", logprobs=1)
    [part] = answer.add(Echoed((1, 0), ((-1.0, ((8, -0.5),)), (-2.0, ((9, -0.5),))), "length"))
    assert isinstance(part, Text)
    assert (part.text, part.tokens) == ("prompt", 0)
    assert [chosen.token.logprob for chosen in part.logprobs] == [None, -1.0, -2.0]
    assert [len(chosen.top) for chosen in part.logprobs] == [0, 1, 1]
    assert answer.finished().completion_tokens == 0


class Marked:
    """Says each piece of a script, one for every token."""

    def __init__(self, *pieces: Piece, calls: int = 0, complete_after: int = 99) -> None:
        self._pieces = list(pieces)
        self._complete_after = complete_after
        self.calls = calls

    @property
    def thinking(self) -> bool:
        return bool(self._pieces) and isinstance(self._pieces[0], Thought)

    @property
    def complete(self) -> bool:
        return len(self._pieces) <= self._complete_after

    def feed(self, text: str) -> list[Piece]:
        return [self._pieces.pop(0)] if text and self._pieces else []

    def flush(self, *, cut: bool = False) -> list[Piece]:
        return []


def test_reasoning_is_apart_counted_and_never_scanned_for_stops(tokenizer: Any) -> None:
    markup = Marked(Thought("let me stop"), Thought(" and think"), VisibleText("fine"), complete_after=-1)
    answer = _answer(tokenizer, Limits(stop=("stop",)), markup, logprobs=0)
    parts = _say(answer, tokenizer.encode("one two three"), logprobs=True)
    assert [type(part) for part in parts] == [Reasoning, Reasoning, Text]
    assert isinstance(parts[2], Text)
    assert [chosen.token.text for chosen in parts[2].logprobs] == [str(tokenizer.encode("one two three")[2])]
    assert answer.finished().reasoning_tokens == 2


def test_calls_have_an_id_with_their_name_only_and_end_as_tool_calls(tokenizer: Any) -> None:
    markup = Marked(Called(0, "", "f"), Called(0, '{"a"'), Called(0, ": 1}"), calls=1, complete_after=-1)
    answer = _answer(tokenizer, markup=markup)
    parts = _say(answer, [*tokenizer.encode("one two three"), 2], end="stop")
    calls = [part for part in parts if isinstance(part, ToolCall)]
    assert [(call.name, call.arguments) for call in calls] == [("f", ""), (None, '{"a"'), (None, ": 1}")]
    assert calls[0].id is not None
    assert calls[0].id.startswith("call_")
    assert {call.id for call in calls[1:]} == {None}
    assert answer.finish == "tool_calls"


def test_calls_that_are_cut_off_end_as_length(tokenizer: Any) -> None:
    answer = _answer(tokenizer, markup=Marked(Called(0, "{", "f"), complete_after=-1))
    _say(answer, tokenizer.encode("one"), end="length")
    assert answer.finish == "length"


def test_the_one_call_that_is_allowed_ends_the_answer(tokenizer: Any) -> None:
    answer = _answer(tokenizer, markup=Marked(Called(0, "{}", "f"), VisibleText("more"), calls=1, complete_after=1))
    parts = answer.add(Token((1, 0), tokenizer.encode("one")[0]))
    assert (answer.finish, len(parts)) == ("tool_calls", 1)


def test_ids_of_tokens_without_text_come_with_the_next_part(tokenizer: Any) -> None:
    mark, tokens = tokenizer.eos_token_id, tokenizer.encode("one two")
    answer = _answer(tokenizer, token_ids=True)
    first, *parts = _say(answer, [mark, *tokens, mark], end="stop")
    assert first == Text(1, 0, "", 0, prompt=PromptReport((5, 6, 7)))
    assert [part.ids for part in parts] == [(mark, tokens[0]), *((token,) for token in tokens[1:]), (mark,)]
    assert [part.tokens for part in parts] == [len(part.ids) for part in parts]


def test_a_scored_prompt_is_told_before_its_answer(tokenizer: Any) -> None:
    answer = _answer(tokenizer, prompt_logprobs=0)
    [part] = answer.add(Echoed((1, 0), ((-1.0, ((8, -0.5),)), (-2.0, ())), None, (3, 1)))
    assert isinstance(part, Text)
    assert (part.text, part.logprobs) == ("", ())
    assert part.prompt is not None
    assert [chosen.token.logprob for chosen in part.prompt.logprobs] == [None, -1.0, -2.0]
    assert (part.prompt.ids, part.prompt.ranks) == ((), (0, 3, 1))
    assert not any(chosen.top for chosen in part.prompt.logprobs)
    [text] = _say(answer, tokenizer.encode("one")[:1])
    assert isinstance(text, Text)
    assert text.prompt is None


def test_where_ids_are_told_each_has_its_report_and_its_place(tokenizer: Any) -> None:
    markup = Marked(Thought("let me "), VisibleText("fine"), Called(0, "{}", "f"), complete_after=-1)
    answer = _answer(tokenizer, markup=markup, logprobs=0, token_ids=True)
    tokens = [*tokenizer.encode("one two three"), 2]
    parts = _say(answer, tokens, end="stop", logprobs=True)
    reported = [int(chosen.token.text) for part in parts if isinstance(part, Text) for chosen in part.logprobs]
    assert reported == [id_ for part in parts for id_ in part.ids] == tokens
    plain = _say(_answer(tokenizer, logprobs=0), tokens, end="stop", logprobs=True)
    assert [int(one.token.text) for part in plain if isinstance(part, Text) for one in part.logprobs] == tokens[:-1]
