"""Sequences for an engine, what became of them, and what mlx-lm says to each alone. Imports MLX only where it runs."""

from __future__ import annotations

import random
from collections.abc import Callable
from collections.abc import Sequence as Several
from dataclasses import dataclass, field
from typing import Any, Protocol

from mlx_server.schemas.internal.generation import Sampling
from mlx_server.workers.engine.sequence import Broken, Key, Produced, Sequence, Token

GREEDY = Sampling(temperature=0.0)
SEEDED = Sampling(
    temperature=0.9,
    top_p=0.95,
    top_k=50,
    min_p=0.01,
    repetition_penalty=1.1,
    repetition_context_size=8,
    presence_penalty=0.4,
    frequency_penalty=0.3,
    logit_bias={7: 2.0},
)
FIRST_ORDINARY_TOKEN = 4


class Engine(Protocol):
    """What batched and sequential decoding have in common."""

    @property
    def busy(self) -> bool: ...
    def add(self, sequence: Sequence) -> None: ...
    def remove(self, key: Key) -> None: ...
    def step(self) -> list[Produced]: ...


@dataclass
class Outcome:
    """All that one sequence produced."""

    tokens: list[int] = field(default_factory=list)
    end: str | None = None
    """The finish reason, or `broken`."""


class Player:
    """Runs sequences on an engine and keeps what they produce."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.outcomes: dict[Key, Outcome] = {}
        self.errors: dict[Key, str] = {}

    def add(self, *sequences: Sequence) -> None:
        for sequence in sequences:
            self.outcomes[sequence.key] = Outcome()
            self.engine.add(sequence)

    def step(self) -> list[Produced]:
        produced = self.engine.step()
        for item in produced:
            outcome = self.outcomes[item.key]
            assert outcome.end is None, "something came after the end"
            match item:
                case Token():
                    outcome.tokens.append(item.token)
                    outcome.end = item.finish
                case Broken():
                    outcome.end = "broken"
                    self.errors[item.key] = item.message
        return produced

    def run(self, steps: int = 3000) -> dict[Key, Outcome]:
        """Step until nothing is left."""
        while self.engine.busy:
            assert steps, "the engine does not come to an end"
            steps -= 1
            self.step()
        return self.outcomes


def sequence(number: int, prompt: list[int], max_tokens: int = 16, sampling: Sampling = GREEDY) -> Sequence:
    """A sequence of a ticket of its own."""
    return Sequence((number, 0), list(prompt), max_tokens, sampling)


def random_prompt(rng: random.Random, model: Any, longest: int = 40) -> list[int]:
    """Token ids that any text might have."""
    return [rng.randrange(FIRST_ORDINARY_TOKEN, model.args.vocab_size) for _ in range(rng.randint(1, longest))]


def alone(model: Any, prompt: list[int], max_tokens: int = 16, stop_tokens: frozenset[int] = frozenset()) -> Outcome:
    """The greedy answer of mlx-lm's own unbatched loop."""
    import mlx.core as mx
    from mlx_lm.generate import generate_step

    outcome = Outcome()
    for token, _ in generate_step(mx.array(prompt), model, max_tokens=max_tokens):
        outcome.tokens.append(int(token))
        if int(token) in stop_tokens:
            outcome.end = "stop"
            return outcome
    outcome.end = "length"
    return outcome


def check_all_say_what_they_say_alone(
    engine: Engine,
    model: Any,
    rng: random.Random,
    count: int,
    *,
    prompts: Several[int] = (10, 40, 200),
    answers: Several[int] = (1, 2, 20, 60),
    leaves: float = 0.05,
    prepare: Callable[[Sequence, list[int]], object] = lambda one, says: None,
    stepped: Callable[[], object] = lambda: None,
) -> list[Sequence]:
    """Have `count` sequences join, a few at a time, and some of them leave; greedy ones must say what they say alone.

    Prompts are at most so long, answers just that. `prepare` gets each sequence with what it says alone, `stepped` is
    called after each step. Gives all of them.
    """
    player = Player(engine)
    sequences: dict[Key, Sequence] = {}
    expected: dict[Key, Outcome] = {}
    left: set[Key] = set()
    while len(sequences) < count or engine.busy:
        running = [key for key, outcome in player.outcomes.items() if outcome.end is None and key not in left]
        if len(sequences) < count and len(running) < 8 and rng.random() < 0.5:
            prompt = random_prompt(rng, model, rng.choice(prompts))
            one = sequence(len(sequences), prompt, rng.choice(answers), rng.choice([GREEDY, GREEDY, SEEDED]))
            sequences[one.key], expected[one.key] = one, alone(model, prompt, one.max_tokens)
            prepare(one, expected[one.key].tokens)
            player.add(one)
        if running and rng.random() < leaves:
            left.add(leaving := rng.choice(running))
            engine.remove(leaving)
        if engine.busy:
            player.step()
        stepped()
    for key, one in sequences.items():
        if one.sampling is GREEDY:
            assert one.emitted == expected[key].tokens[: len(one.emitted)]
            assert key in left or player.outcomes[key] == expected[key]
    return list(sequences.values())
