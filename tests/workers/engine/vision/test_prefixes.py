import random
from typing import Any

import pytest
from PIL import Image
from shapes.draw import draw_scene
from support.engines import Player
from support.tiny.sight import Sight, said

from mlx_server.workers.engine.kvcache.prefix_store import LEAST, PrefixStore
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.engine.vision.features import forget, remember

pytestmark = pytest.mark.model

ROOM = 1 << 30
SYSTEM = said("Answer briefly.", role="system")


@pytest.fixture
def images() -> list[Image.Image]:
    rnd = random.Random(21)
    return [draw_scene(rnd).image(64 + 16 * i) for i in range(3)]


def _answer(engine: Any, sequence: Sequence) -> list[int]:
    player = Player(engine)
    player.add(sequence)
    return player.run()[sequence.key].tokens


def _run(sight: Sight, engine: Any, number: int, *messages: Any, **how: Any) -> Sequence:
    """A sequence that says what it says alone."""
    sequence = sight.sequence(number, *messages, **how)
    assert _answer(engine, sequence) == sight.alone(*messages)
    return sequence


def test_the_next_turn_goes_on_where_the_last_one_ended(sight: Sight, images: list[Image.Image]) -> None:
    engine = sight.engine(prefixes=PrefixStore(ROOM))
    first = said("What colour is the shape?", images[0])
    one = _run(sight, engine, 0, first)
    assert (one.cached_tokens, one.encoded_media, one.cached_media) == (0, 1, 0)
    answer = said(sight.text(one.emitted), role="assistant")
    two = _run(sight, engine, 1, first, answer, said("What shape is it?", images[1]))
    assert two.cached_tokens == len(one.prompt) + len(one.emitted), "the answer's tokens are known too"
    assert (two.encoded_media, two.cached_media) == (1, 1)
    again = _run(sight, engine, 2, first, answer, said("What shape is it?", images[1]))
    assert again.cached_tokens == len(again.prompt) - 1, "the last token is always computed"
    assert (again.encoded_media, again.cached_media) == (0, 2)


def test_another_picture_at_the_same_place_is_not_taken_for_the_first(sight: Sight, images: list[Image.Image]) -> None:
    engine = sight.engine(prefixes=PrefixStore(ROOM))
    other = images[1].resize(images[0].size)
    _run(sight, engine, 0, SYSTEM, said("What colour is the shape?", images[0]))
    changed = _run(sight, engine, 1, SYSTEM, said("What colour is the shape?", other))
    [picture] = changed.media.places if changed.media else ()
    assert changed.cached_tokens in (0, picture.start)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_what_is_known_ends_before_the_first_picture_that_differs(
    sight: Sight, images: list[Image.Image], order: tuple[int, int]
) -> None:
    engine = sight.engine(prefixes=PrefixStore(ROOM))
    question = "What shape is in the second picture?"
    _run(sight, engine, 0, SYSTEM, said(question, images[0], images[1]))
    two = _run(sight, engine, 1, SYSTEM, said(question, images[order[0]], images[2]))
    assert two.media is not None
    first, second = two.media.places
    assert two.cached_tokens == (second.start if order == (0, 1) else first.start if first.start >= LEAST else 0)
    assert two.cached_media == (1 if order == (0, 1) else 0)


def test_a_text_that_looks_like_a_picture_is_not_taken_for_one(sight: Sight, images: list[Image.Image]) -> None:
    """The placeholders' names in a text become the same tokens, but there is no picture behind them."""
    engine = sight.engine(prefixes=PrefixStore(ROOM))
    seen = _run(sight, engine, 0, SYSTEM, said("What colour is the shape?", images[0]))
    assert seen.media is not None
    written = Sequence((1, 0), list(seen.prompt), 4, seen.sampling)
    _answer(engine, written)
    assert written.cached_tokens <= seen.media.places[0].start
    looking = sight.sequence(2, SYSTEM, said("What colour is the shape?", images[0]))
    assert _answer(engine, looking) == seen.emitted


def test_nothing_is_shared_between_tenants(sight: Sight) -> None:
    engine = sight.engine(prefixes=PrefixStore(ROOM))
    long = said("one two three four five six seven eight nine ten eleven")
    _run(sight, engine, 0, long, tenant="a")
    assert _run(sight, engine, 1, long, tenant="b").cached_tokens == 0
    assert _run(sight, engine, 2, long, tenant="a").cached_tokens > 0


def test_what_pictures_became_is_not_shared_between_tenants(sight: Sight, images: list[Image.Image]) -> None:
    tower = remember(sight.model, ROOM)
    assert tower is not None
    engine = sight.engine(prefixes=PrefixStore(ROOM), tower=tower)
    question = said("What colour is the shape?", images[0])
    try:
        seen = [_run(sight, engine, n, question, tenant=who).cached_media for n, who in enumerate("aba")]
    finally:
        forget(sight.model, tower)
    assert seen == [0, 0, 1]


def test_what_was_read_of_a_cancelled_prompt_is_known(sight: Sight, images: list[Image.Image]) -> None:
    engine = sight.engine(prefixes=PrefixStore(ROOM), prefill_step_size=20)
    messages = (SYSTEM, said("Describe the picture.", images[2]))
    engine.add(sight.sequence(0, *messages))
    engine.step()
    engine.step()
    engine.remove((0, 0))
    assert _run(sight, engine, 1, *messages).cached_tokens > 0


def test_the_least_recently_used_leaves_when_there_is_no_room(sight: Sight) -> None:
    texts = [said(f"{word} " * 40) for word in ("red", "blue", "green")]
    engine = sight.engine(prefixes=PrefixStore(ROOM))
    _run(sight, engine, 0, texts[0])
    [entry] = engine._prefixes._kept.values()
    engine = sight.engine(prefixes=PrefixStore(int(2.5 * entry.nbytes)))
    for n, text in enumerate(texts[:2]):
        _run(sight, engine, n, text)
    assert _run(sight, engine, 2, texts[0]).cached_tokens > 0
    _run(sight, engine, 3, texts[2])
    assert _run(sight, engine, 4, texts[0]).cached_tokens > 0
    assert _run(sight, engine, 5, texts[1]).cached_tokens < 40, "no more than all of them begin with"


def test_a_store_without_room_keeps_nothing(sight: Sight) -> None:
    engine = sight.engine(prefixes=PrefixStore(0))
    long = said("one two three four five six seven eight nine ten eleven")
    _run(sight, engine, 0, long)
    assert _run(sight, engine, 1, long).cached_tokens == 0
