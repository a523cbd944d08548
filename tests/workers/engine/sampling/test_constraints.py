"""Grammars, thinking budgets and least lengths inside a batch."""

import json
import re
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import msgspec
import pytest
from support.engines import GREEDY, SEEDED, Player, sequence

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Grammar, Limits
from mlx_server.workers.engine.decode.batch import BatchEngine
from mlx_server.workers.engine.decode.decode_batch import DecodeBatch, Drawn
from mlx_server.workers.engine.grammar.vocabulary import Vocabulary
from mlx_server.workers.engine.output.thinking import ThinkingStart, ThinkingState, ThinkMarks
from mlx_server.workers.engine.sampling.constraints import GrammarMask, LeastLength, ThinkingBudget
from mlx_server.workers.engine.sequence import Sequence

END = 2
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "kind": {"enum": ["a", "b"]},
        "list": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3},
    },
    "required": ["name", "kind", "list"],
    "additionalProperties": False,
}
MARKS = ThinkMarks("<t>", "</t>", (90,), (91, 92))


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Any) -> Any:
    from mlx_lm.utils import load_tokenizer

    return load_tokenizer(tiny_model("llama"))


@pytest.fixture(scope="module")
def vocabulary(tokenizer: Any, llama: Any) -> Iterator[Vocabulary]:
    vocabulary = Vocabulary(tokenizer, llama.args.vocab_size)
    yield vocabulary
    vocabulary.close()


def _engine(model: Any, **more: Any) -> BatchEngine:
    return BatchEngine(model, {END}, rows=8, joint_prefill=True, prefill_step_size=16, **more)


def _constrained(vocabulary: Vocabulary, grammar: Grammar, number: int = 1, seed: int = 1) -> Sequence:
    one = sequence(number, [5, 6, 7, 8], 200, msgspec.structs.replace(SEEDED, seed=seed))
    one.grammar = vocabulary.compile(grammar)
    return one


def _text(tokenizer: Any, tokens: list[int]) -> str:
    return str(tokenizer.decode([token for token in tokens if token != END]))


JSON = Grammar("json_schema", json.dumps(SCHEMA), "response_format")


@pytest.mark.model
@pytest.mark.parametrize("seed", range(8))
def test_constrained_output_is_a_valid_document(llama: Any, tokenizer: Any, vocabulary: Vocabulary, seed: int) -> None:
    player = Player(_engine(llama))
    player.add(_constrained(vocabulary, JSON, seed=seed))
    outcome = player.run()[(1, 0)]
    assert outcome.end == "stop"
    document = json.loads(_text(tokenizer, outcome.tokens))
    assert set(document) == {"name", "kind", "list"}
    assert document["kind"] in ("a", "b")
    assert all(0 <= n <= 99 for n in document["list"])


@pytest.mark.model
@pytest.mark.parametrize(
    ("grammar", "pattern"),
    [
        (Grammar("regex", "[a-f]{3}-[0-9]{2}", "regex"), "[a-f]{3}-[0-9]{2}"),
        (Grammar("choice", '["yes", "no \\"x\\"", "ü"]', "choice"), 'yes|no "x"|ü'),
        (Grammar("lark", 'start: "a" WORD\nWORD: /[xy]{2,4}/', "grammar"), "a[xy]{2,4}"),
        (Grammar("gbnf", 'root ::= "go " ("left" | "right")', "grammar"), "go (left|right)"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_other_grammars_are_kept(
    llama: Any, tokenizer: Any, vocabulary: Vocabulary, grammar: Grammar, pattern: str
) -> None:
    player = Player(_engine(llama))
    player.add(*(_constrained(vocabulary, grammar, number, seed=number) for number in range(4)))
    for outcome in player.run().values():
        assert outcome.end == "stop"
        assert re.fullmatch(pattern, _text(tokenizer, outcome.tokens))


@pytest.mark.model
def test_neighbours_are_not_changed(llama: Any, vocabulary: Vocabulary) -> None:
    def neighbours() -> list[Sequence]:
        return [sequence(n, [n, n + 1, n + 2], 30, GREEDY if n % 2 else SEEDED) for n in range(2, 6)]

    sampling = [msgspec.structs.replace(one.sampling, seed=3) for one in neighbours()]
    seeded = [sequence(n, [n, n + 1, n + 2], 30, s) for n, s in enumerate(sampling, 2)]
    without = Player(_engine(llama))
    without.add(*seeded)
    expected = without.run()
    beside = Player(_engine(llama))
    beside.add(
        _constrained(vocabulary, JSON), *[sequence(n, [n, n + 1, n + 2], 30, s) for n, s in enumerate(sampling, 2)]
    )
    outcomes = beside.run()
    assert {key: outcomes[key] for key in expected} == expected


@pytest.mark.model
@pytest.mark.parametrize("fails_at", [1, 4, 9, 15])
def test_a_replay_takes_the_grammar_up_where_it_was(llama: Any, vocabulary: Vocabulary, fails_at: int) -> None:
    calls = 0

    class FailingRows(DecodeBatch):
        def step(self) -> list[Drawn]:
            nonlocal calls
            calls += 1
            if calls == fails_at:
                raise RuntimeError("the test says so")
            return super().step()

    undisturbed = Player(_engine(llama))
    undisturbed.add(_constrained(vocabulary, JSON))
    disturbed = Player(_engine(llama, make_rows=FailingRows))
    disturbed.add(_constrained(vocabulary, JSON))
    assert disturbed.run() == undisturbed.run()


@pytest.mark.model
@pytest.mark.parametrize(
    "grammar",
    [
        Grammar("json_schema", '{"type": "nonsense"}', "p"),
        Grammar("json_schema", '{"$ref": "https://example.com/schema.json"}', "p"),
        Grammar("json_schema", '{"$ref": "#/$defs/missing"}', "p"),
        Grammar("json_schema", '{"type": "string", "pattern": "("}', "p"),
        Grammar("regex", "(", "p"),
        Grammar("regex", "(?=a)b", "p"),
        Grammar("lark", "start: missing", "p"),
        Grammar("lark", "nonsense", "p"),
        Grammar("gbnf", "root ::= other", "p"),
    ],
    ids=lambda grammar: f"{grammar.kind} {grammar.text}",
)
def test_a_grammar_that_cannot_be_enforced_is_refused_with_the_reason(vocabulary: Vocabulary, grammar: Grammar) -> None:
    with pytest.raises(InvalidRequest) as caught:
        vocabulary.compile(grammar)
    assert caught.value.param in ("p", "p.type", "p.$ref")
    assert caught.value.code == "invalid_grammar"
    verb = "guaranteed" if grammar.kind == "json_schema" else "enforced"
    assert caught.value.message.startswith(f"`{caught.value.param}` can't be {verb}: ")


@pytest.mark.model
def test_tokens_are_described_by_their_bytes(tokenizer: Any, vocabulary: Vocabulary) -> None:
    described = [vocabulary.describe(token, -1.0) for token in tokenizer.encode("the 🦖 fox")]
    assert b"".join(one.raw for one in described) == "the 🦖 fox".encode()
    assert vocabulary.describe(END, None).text == "<|im_end|>"
    assert vocabulary.describe(len(tokenizer) + 5, None).text == ""


def _feed(state: ThinkingState, tokens: list[int]) -> list[bool]:
    return [state.feed(token) for token in tokens]


def test_thinking_that_is_open_ends_with_its_mark() -> None:
    state = ThinkingStart(MARKS, thinks=True, may_think=False).state()
    assert _feed(state, [5, 91, 91, 92, 6]) == [True, True, True, True, False]
    assert (state.thinks, state.tokens) == (False, 4)


def test_thinking_may_begin_at_the_very_beginning_only() -> None:
    assert _feed(ThinkingStart(MARKS, thinks=False, may_think=True).state(), [90, 5, 91, 92, 6]) == [True] * 4 + [False]
    assert _feed(ThinkingStart(MARKS, thinks=False, may_think=True).state(), [6, 90, 5]) == [False] * 3
    assert _feed(ThinkingStart(MARKS, thinks=False, may_think=False).state(), [90, 5]) == [False] * 2


def test_a_thinking_budget_forces_the_end_mark_once() -> None:
    start = ThinkingStart(MARKS, thinks=True, may_think=False)
    budget = ThinkingBudget(3, MARKS.end_ids, start.state(), [])
    context, logits = [1, 2], mx.zeros((1, 100))
    said = []
    for wished in [10, 11, 12, 13, 14, 15]:
        out = budget(mx.array(context), logits + mx.zeros((1, 100)).at[:, wished].add(5.0))
        said.append(int(mx.argmax(out).item()))  # type: ignore[arg-type]
        context.append(said[-1])
    assert said == [10, 11, 12, 91, 92, 15]


@pytest.mark.model
@pytest.mark.parametrize(("ends", "wished", "said"), [({END, 7}, 7, 91), ({END, 91}, 91, 91)], ids=["end", "mark"])
def test_a_thought_does_not_end_the_turn_before_what_a_grammar_asks_for(
    vocabulary: Vocabulary, ends: set[int], wished: int, said: int
) -> None:
    start = ThinkingStart(MARKS, thinks=True, may_think=False)
    mask = GrammarMask(vocabulary.compile(Grammar("regex", "a", "p")), ends, start.state(), [])
    logits = mx.zeros((1, 100)).at[:, mx.array([wished, 91])].add(mx.array([9.0, 5.0]))
    assert int(mx.argmax(mask(mx.array([1, 2]), logits)).item()) == said  # type: ignore[arg-type]


def test_a_least_length_forbids_the_ends_until_it_is_reached() -> None:
    least = LeastLength([3, 5], until=4)
    early = least(mx.array([1, 1, 1]), mx.zeros((1, 8)))
    assert [i for i in range(8) if early[0, i].item() == -mx.inf] == [3, 5]
    assert mx.isfinite(least(mx.array([1, 1, 1, 1]), mx.zeros((1, 8)))).all().item()


@pytest.mark.model
def test_limits_end_a_sequence_when_they_say(llama: Any) -> None:
    usual = Player(_engine(llama))
    usual.add(sequence(1, [5, 6, 7], 20, GREEDY))
    tokens = usual.run()[(1, 0)].tokens
    [third] = {tokens[3]} - set(tokens[:3])
    player = Player(_engine(llama))
    for number, limits in enumerate(
        [Limits(stop_token_ids=(third,)), Limits(stop_token_ids=(third,), min_tokens=6), Limits(ignore_eos=True)]
    ):
        one = sequence(number, [5, 6, 7], 20, GREEDY)
        one.limits = limits
        player.add(one)
    outcomes = player.run()
    assert (outcomes[(0, 0)].tokens, outcomes[(0, 0)].end) == (tokens[:4], "stop")
    assert len(outcomes[(1, 0)].tokens) >= 6
    assert third not in outcomes[(1, 0)].tokens[:5]
    assert (len(outcomes[(2, 0)].tokens), outcomes[(2, 0)].end) == (20, "length")
