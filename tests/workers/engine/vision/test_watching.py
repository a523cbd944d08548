"""A model that sees films: what it says to them, and which of them it is not asked to watch again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.engines import Player
from support.films import film_file
from support.tiny.sight import Sight, said

from mlx_server.schemas.internal.generation import Media, Message
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.engine.vision.batch import VisionEngine
from mlx_server.workers.engine.vision.features import forget, remember
from mlx_server.workers.engine.vision.reference_trace import REPORTED, TOKENS, difference, trace_alone
from mlx_server.workers.engine.vision.trial import play

pytestmark = pytest.mark.model

RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)
PICTURE = Image.radial_gradient("L").resize((64, 48)).convert("RGB")
SYSTEM = Message("system", "You answer questions about what you see.")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Three of the same length and size, and a longer one."""
    folder: Path = tmp_path_factory.mktemp("films")
    colours: list[list[Any]] = [[RED] * 10 + [GREEN] * 10, [BLUE] * 20, [GREEN] * 20, [RED] * 20 + [BLUE] * 20]
    return [film_file(folder / f"{n}.mp4", frames) for n, frames in enumerate(colours)]


def _watched(text: str, *files: bytes) -> Message:
    media = tuple(Media("video", file, 0, f"messages[0].content[{n}]") for n, file in enumerate(files))
    return Message("user", text, media=media)


def _between(text: str, *parts: Message) -> Message:
    return Message("user", text, media=tuple(one for part in parts for one in part.media))


def test_rows_that_join_one_another_say_what_each_says_alone(sight: Sight, films: list[bytes]) -> None:
    asked = [
        (_watched("What colour is the shape?", films[0]),),
        (said("Hello!"),),
        (_watched("What colour is the shape?", films[3]),),
        (_between("What colour is the shape?", said("", PICTURE), _watched("", films[1])),),
        (_watched("Describe it.", films[0]), said("a shape", role="assistant"), _watched("And this?", films[1])),
        (said("Describe the picture.", PICTURE),),
    ]
    player = Player(sight.engine(rows=4))
    for n, messages in enumerate(asked):
        player.add(sight.sequence(n, *messages, max_tokens=6 + n))
        for _ in range(n % 3):
            player.step()
    outcomes = player.run()
    answers = [outcomes[n, 0].tokens for n in range(len(asked))]
    assert answers == [sight.alone(*messages, max_tokens=6 + n) for n, messages in enumerate(asked)]


def test_what_is_watched_counts_and_is_the_same_in_a_batch(sight: Sight, films: list[bytes]) -> None:
    asked = [(_watched("What colour is the shape?", film),) for film in films]
    sequences = [sight.sequence(n, *messages, max_tokens=TOKENS, logprobs=REPORTED) for n, messages in enumerate(asked)]
    alone = [trace_alone(sight.model, sequence) for sequence in sequences]
    traces = play(VisionEngine(sight.model, set(), rows=4, prefill_step_size=16), sequences)
    assert max(difference(*pair) for pair in zip(alone, traces, strict=True)) < 0.05
    assert difference(traces[0], traces[1]) > 0.1


def _run(sight: Sight, engine: Any, number: int, *messages: Message) -> Sequence:
    sequence = sight.sequence(number, *messages, max_tokens=6)
    player = Player(engine)
    player.add(sequence)
    assert player.run()[number, 0].tokens == sight.alone(*messages, max_tokens=6)
    return sequence


def test_only_the_same_film_is_known_again(sight: Sight, films: list[bytes]) -> None:
    engine = sight.engine(prefixes=PrefixStore(1 << 30))
    one = _run(sight, engine, 0, SYSTEM, _watched("What colour is the shape?", films[1]))
    assert (one.cached_tokens, one.encoded_media, one.cached_media) == (0, 1, 0)
    other = _run(sight, engine, 1, SYSTEM, _watched("What colour is the shape?", films[2]))
    assert one.prompt == other.prompt
    assert other.media is not None
    [place] = other.media.places
    assert (place.kind, other.cached_tokens, other.encoded_media) == ("video", place.start, 1)
    again = _run(sight, engine, 2, SYSTEM, _watched("What colour is the shape?", films[1]))
    assert (again.cached_tokens, again.encoded_media, again.cached_media) == (len(again.prompt) - 1, 0, 1)


def test_films_that_were_watched_are_remembered_beside_pictures(sight: Sight, films: list[bytes]) -> None:
    tower = remember(sight.model, 1 << 30)
    assert tower is not None
    try:
        engine = sight.engine(tower=tower)
        both = _between("What colour is the shape?", _watched("", films[1]), _watched("", films[3]))
        first = _run(sight, engine, 0, both)
        assert (first.encoded_media, first.cached_media) == (2, 0)
        mixed = _between("What colour is the shape?", said("", PICTURE), _watched("", films[3]))
        second = _run(sight, engine, 1, mixed)
        assert (second.encoded_media, second.cached_media) == (1, 1)
    finally:
        forget(sight.model, tower)
