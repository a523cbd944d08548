import random
from typing import Any

import msgspec
import pytest
from shapes.draw import draw_scene
from support.engines import GREEDY, SEEDED, Player
from support.tiny.sight import Sight, conversations, said

from mlx_server.schemas.internal.generation import Grammar, Limits, Sampling
from mlx_server.workers.engine.decode.admission import Admission, footprint
from mlx_server.workers.engine.sequence import Broken, Key, Token
from mlx_server.workers.engine.vision.text_model import TextModel

pytestmark = pytest.mark.model


def _seeded(seed: int) -> Sampling:
    return msgspec.structs.replace(SEEDED, seed=seed)


def test_rows_that_join_one_another_say_what_each_says_alone(sight: Sight) -> None:
    """Token for token as mlx-vlm's unbatched loop, whoever else is in the batch, however the prompts are cut."""
    asked = list(conversations(1, 10))
    player = Player(sight.engine(rows=4))
    for n, messages in enumerate(asked):
        player.add(sight.sequence(n, *messages, max_tokens=8 + n))
        for _ in range(n % 4):
            player.step()
    outcomes = player.run()
    for n, messages in enumerate(asked):
        assert outcomes[n, 0].tokens == sight.alone(*messages, max_tokens=8 + n), messages
    assert {outcome.end for outcome in outcomes.values()} == {"stop"}


def test_answers_are_about_the_pictures(sight: Sight) -> None:
    rnd = random.Random(5)
    scenes = [draw_scene(rnd) for _ in range(12)]
    player = Player(sight.engine())
    for n, scene in enumerate(scenes):
        player.add(sight.sequence(n, said("What colour is the shape?", scene.image())))
    outcomes = player.run()
    answers = [sight.text(outcomes[n, 0].tokens) for n in range(len(scenes))]
    right = sum(answer == scene.shapes[0].colour for answer, scene in zip(answers, scenes, strict=True))
    assert right >= 9, answers


def test_a_seed_gives_the_same_beside_any_neighbours(sight: Sight) -> None:
    asked = list(conversations(2, 5))
    by_itself = Player(sight.engine())
    by_itself.add(sight.sequence(0, *asked[0], sampling=_seeded(7)))
    expected = by_itself.run()[0, 0].tokens
    player = Player(sight.engine())
    for n, messages in enumerate(asked):
        player.add(sight.sequence(n, *messages, sampling=_seeded(7 + n)))
        player.step()
    assert player.run()[0, 0].tokens == expected


def test_log_probabilities_belong_to_the_tokens_beside_them(sight: Sight) -> None:
    asked = list(conversations(3, 3))
    wanted: dict[int, int | None] = {0: 3, 1: None, 2: 0}
    engine = sight.engine()
    found: dict[Key, list[Token]] = {}
    for n, messages in enumerate(asked):
        engine.add(sight.sequence(n, *messages, logprobs=wanted[n]))
    while engine.busy:
        for item in engine.step():
            assert isinstance(item, Token)
            found.setdefault(item.key, []).append(item)
    for token in found[0, 0]:
        assert (token.token, token.logprob) == token.top[0], "greedy takes the best"
        assert len(token.top) == 3
    assert all(token.logprob is None for token in found[1, 0])
    assert all(token.logprob is not None and token.top == () for token in found[2, 0])


def test_choices_share_what_is_read_of_their_prompt(sight: Sight) -> None:
    [messages] = conversations(4, 1)
    player = Player(sight.engine())
    alone = sight.alone(*messages)
    player.add(*sight.sequences(0, *messages, n=3))
    outcomes = player.run()
    assert [outcomes[0, choice].tokens for choice in range(3)] == [alone] * 3
    different = Player(sight.engine())
    hot = msgspec.structs.replace(GREEDY, temperature=3.0, seed=1)
    different.add(*sight.sequences(1, *messages, n=3, sampling=hot))
    assert len({tuple(outcome.tokens) for outcome in different.run().values()}) == 3


def test_what_ends_an_answer_is_each_rows_own(sight: Sight) -> None:
    [messages] = conversations(5, 1)
    [first, *_] = sight.alone(*messages)
    player = Player(sight.engine())
    player.add(sight.sequence(0, *messages, limits=Limits(stop_token_ids=(first,))))
    player.add(sight.sequence(1, *messages, max_tokens=1))
    player.add(sight.sequence(2, *messages, max_tokens=5, limits=Limits(ignore_eos=True)))
    player.add(sight.sequence(3, *messages, max_tokens=9, limits=Limits(min_tokens=6)))
    outcomes = player.run()
    assert (outcomes[0, 0].tokens, outcomes[0, 0].end) == ([first], "stop")
    assert (outcomes[1, 0].tokens, outcomes[1, 0].end) == ([first], "length")
    assert (len(outcomes[2, 0].tokens), outcomes[2, 0].end) == (5, "length")
    assert len(outcomes[3, 0].tokens) >= 6


def test_a_grammar_holds_one_row_and_leaves_the_others(sight: Sight) -> None:
    asked = list(conversations(6, 3))
    player = Player(sight.engine())
    grammar = Grammar("choice", '["mauve", "ochre"]', "response_format")
    player.add(sight.sequence(0, *asked[0], grammar=grammar))
    for n in (1, 2):
        player.add(sight.sequence(n, *asked[n]))
    outcomes = player.run()
    assert sight.text(outcomes[0, 0].tokens) in ("mauve", "ochre")
    for n in (1, 2):
        assert outcomes[n, 0].tokens == sight.alone(*asked[n])


def test_a_sequence_leaves_at_any_stage_without_a_trace(sight: Sight) -> None:
    asked = list(conversations(7, 4))
    for stage in range(6):
        player = Player(sight.engine(prefill_step_size=8))
        for n, messages in enumerate(asked):
            player.add(sight.sequence(n, *messages))
        for _ in range(2 * stage):
            player.step()
        player.engine.remove((2, 0))
        done = player.outcomes.pop((2, 0)).tokens
        outcomes = player.run()
        assert all(outcomes[n, 0].tokens == sight.alone(*asked[n]) for n in (0, 1, 3))
        assert done == sight.alone(*asked[2])[: len(done)]


def test_a_long_prompt_does_not_hold_up_a_short_one(sight: Sight) -> None:
    engine = sight.engine(prefill_step_size=16)
    long = sight.sequence(0, said("word " * 400))
    short = sight.sequence(1, said("Hello!"))
    engine.add(long)
    engine.step()
    engine.add(short)
    while not short.emitted:
        engine.step()
    assert not long.emitted
    engine.close()


class _Failing:
    """A language model that fails at some calls; all else is the real one's."""

    def __init__(self, language_model: Any, calls: set[int]) -> None:
        self.__dict__["real"] = language_model
        self.__dict__["calls"] = calls
        self.__dict__["count"] = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:
            self.__dict__[name] = value
        else:
            setattr(self.real, name, value)

    def __call__(self, inputs: Any, **how: Any) -> Any:
        if inputs.shape[0] > 1 or inputs.shape[1] == 1:
            self.count += 1
            if self.count in self.calls:
                raise RuntimeError("the device is gone")
        return self.real(inputs, **how)


class _Model:
    """A model whose language part is another one."""

    def __init__(self, model: Any, language_model: Any) -> None:
        self._model = model
        self.language_model = language_model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def test_everybody_survives_a_step_that_raises(sight: Sight) -> None:
    from mlx_server.workers.engine.vision.batch import VisionEngine

    asked = list(conversations(8, 4))
    model = _Model(sight.model, _Failing(sight.model.language_model, {6, 10}))
    player = Player(VisionEngine(model, sight.stop_tokens, rows=4, prefill_step_size=64))
    for n, messages in enumerate(asked):
        player.add(sight.sequence(n, *messages))
    outcomes = player.run()
    assert model.language_model.count > 10
    assert [outcomes[n, 0].tokens for n in range(4)] == [sight.alone(*messages) for messages in asked]


def test_a_prompt_that_cannot_be_read_breaks_alone(sight: Sight) -> None:
    asked = list(conversations(9, 2))
    bad = sight.sequence(5, *asked[0])
    assert bad.media is not None
    bad.media.arrays["pixel_values"] = bad.media.arrays["pixel_values"][:-4]
    player = Player(sight.engine())
    player.add(sight.sequence(0, *asked[0]), bad, sight.sequence(1, *asked[1]))
    outcomes = player.run()
    assert outcomes[5, 0].end == "broken"
    assert all(outcomes[n, 0].tokens == sight.alone(*asked[n]) for n in (0, 1))


def test_a_processor_that_fails_breaks_its_own_row(sight: Sight) -> None:
    asked = list(conversations(10, 2))
    engine = sight.engine()
    doomed = sight.sequence(0, *asked[0], sampling=msgspec.structs.replace(GREEDY, logit_bias={1: 1.0}))
    other = sight.sequence(1, *asked[1])
    engine.add(doomed)
    engine.add(other)
    produced = engine.step()
    engine._processors[0, 0].error = ValueError("no")
    while engine.busy:
        produced += engine.step()
    assert Broken((0, 0), "ValueError: no") in produced
    assert other.emitted == sight.alone(*asked[1])


def test_what_does_not_fit_into_memory_waits(sight: Sight) -> None:
    """All answers are what they would be alone, and no more run than fit."""
    size = footprint(TextModel(sight.model))
    messages = [said(f"{word} " * 30) for word in ("red", "blue", "green", "one")]
    sequences = [sight.sequence(n, one, max_tokens=12) for n, one in enumerate(messages)]
    longest = max(len(one.prompt) for one in sequences)
    admission = Admission(size, 2 * size.per_token * (longest + 20), grouped=False)
    engine = sight.engine(admission=admission)
    player = Player(engine)
    player.add(*sequences)
    most = 0
    while engine.busy:
        player.step()
        most = max(most, len(engine._running))
    assert most == 2
    for one, message in zip(sequences, messages, strict=True):
        assert one.emitted == sight.alone(message, max_tokens=12)


def test_chunks_beside_answers_follow_the_gap_that_is_aimed_at(sight: Sight) -> None:
    """With no time for reading, each step reads as little as it may; with much, all of a chunk."""
    steps = {}
    for gap_s in (1e-6, 1000.0):
        engine = sight.engine(gap_s=gap_s, prefill_step_size=32)
        player = Player(engine)
        player.add(sight.sequence(0, said("red"), max_tokens=200, limits=Limits(ignore_eos=True)))
        for _ in range(8):
            player.step()
        player.add(late := sight.sequence(1, said("blue " * 60), max_tokens=4))
        steps[gap_s] = 0
        while not late.emitted:
            player.step()
            steps[gap_s] += 1
        player.run()
    assert steps[1e-6] > 2 * steps[1000.0]
