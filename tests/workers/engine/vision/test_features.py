import random
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image
from shapes.draw import draw_scene
from support.engines import Player
from support.tiny.sight import Sight, said

from mlx_server.workers.engine.vision.features import FeatureMemory, RememberingTower, forget, key_of, remember
from mlx_server.workers.engine.vision.per_image import Call, apart, concatenated, joined, of_pictures, pieces
from mlx_server.workers.engine.vision.together import Joinable

pytestmark = pytest.mark.model


class _Counted:
    """An encoder, and the number of patches in each of its calls."""

    def __init__(self, tower: Any) -> None:
        self._tower = tower
        self.calls: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tower, name)

    def __call__(self, pixels: mx.array, *args: Any, **how: Any) -> Any:
        self.calls.append(pixels.shape[0])
        return self._tower(pixels, *args, **how)


@pytest.fixture
def tower(sight: Sight) -> Iterator[RememberingTower]:
    real = sight.model.vision_tower
    sight.model.vision_tower = _Counted(real)
    tower = remember(sight.model, 1 << 30)
    assert tower is not None
    yield tower
    forget(sight.model, tower)
    sight.model.vision_tower = real


@pytest.fixture
def images() -> list[Image.Image]:
    rnd = random.Random(31)
    return [draw_scene(rnd).image(*size) for size in ((64, 64), (96, 64), (32, 80))]


def _run(sight: Sight, tower: RememberingTower, number: int, *messages: Any) -> tuple[int, int]:
    """How many pictures had to be looked at, and how many were known."""
    player = Player(sight.engine(tower=tower))
    sequence = sight.sequence(number, *messages)
    player.add(sequence)
    player.run()
    return sequence.encoded_media, sequence.cached_media


def test_each_distinct_picture_is_looked_at_once(
    sight: Sight, tower: RememberingTower, images: list[Image.Image]
) -> None:
    a, b, c = images
    question = "What shape is in the first picture?"
    assert _run(sight, tower, 0, said(question, a)) == (1, 0)
    assert _run(sight, tower, 1, said("Describe the picture.", a)) == (0, 1), "whatever is asked"
    assert _run(sight, tower, 2, said(question, b, a)) == (1, 1), "wherever it stands"
    assert _run(sight, tower, 3, said(question, c, c)) == (1, 1), "twice in one request"
    assert _run(sight, tower, 4, said("a", a), said("a", role="assistant"), said("And this?", c)) == (0, 2)
    assert len(tower._tower.calls) == 3


def test_remembered_features_answer_as_the_encoders_do(sight: Sight, images: list[Image.Image]) -> None:
    a, b, _ = images
    conversations = [(said("What shape is in the second picture?", *order),) for order in ((a, b), (b, a), (a, a))]
    expected = [sight.alone(*messages) for messages in conversations]
    tower = remember(sight.model, 1 << 30)
    assert tower is not None
    try:
        for _ in range(2):
            player = Player(sight.engine(tower=tower))
            for n, messages in enumerate(conversations):
                player.add(sight.sequence(n, *messages))
            outcomes = player.run()
            assert [outcomes[n, 0].tokens for n in range(len(conversations))] == expected
    finally:
        forget(sight.model, tower)


def test_pictures_that_come_together_are_remembered_together_where_they_cannot_be_told_apart(
    sight: Sight, tower: RememberingTower, images: list[Image.Image]
) -> None:
    tower.start_over(separately=False)
    a, b, _ = images
    question = "What shape is in the first picture?"
    assert _run(sight, tower, 0, said(question, a, b)) == (2, 0)
    assert _run(sight, tower, 1, said(question, a, b)) == (0, 2)
    assert _run(sight, tower, 2, said(question, b, a)) == (2, 0)


def test_the_least_recently_used_features_leave_when_there_is_no_room() -> None:
    memory = FeatureMemory(100)
    features = {name: mx.zeros(10) for name in (b"a", b"b", b"c")}
    for name in (b"a", b"b"):
        memory.put(name, [features[name]])
    assert memory.get(b"a") is not None
    memory.put(b"c", (features[b"c"], None))
    (kept,) = memory.get(b"a")
    assert mx.array_equal(kept, features[b"a"])
    assert memory.get(b"b") is None
    memory.put(b"d", mx.zeros(1000))
    assert memory.get(b"d") is None, "one that is larger than all the room pushes nobody out"
    assert memory.get(b"c") is not None


def test_a_call_is_known_by_all_its_numbers() -> None:
    pixels = mx.arange(12).reshape(3, 4)
    calls = [
        Call((pixels,), {}),
        Call((pixels.reshape(4, 3),), {}),
        Call((pixels.astype(mx.float32),), {}),
        Call((pixels + 1,), {}),
        Call((pixels, mx.array([[1, 1, 3]])), {}),
        Call((pixels, np.array([[1, 1, 3]])), {}),
        Call((pixels,), {"output_hidden_states": True}),
        Call((pixels,), {"output_hidden_states": False}),
        Call((pixels, [(1, 2)]), {}),
        Call((pixels, [(1, 3)]), {}),
        Call((pixels.astype(mx.bfloat16),), {}),
    ]
    keys = [key_of(call) for call in calls]
    assert None not in keys
    assert len(set(keys)) == len(calls)
    assert key_of(Call((mx.arange(12).reshape(3, 4),), {})) == keys[0]
    assert key_of(Call((pixels, object()), {})) is None, "who knows what that is"
    assert key_of(calls[0], "a") not in keys
    assert key_of(calls[0], "a") != key_of(calls[0], "b")


def test_calls_are_split_by_grids_and_by_the_first_axis() -> None:
    pixels, grid = mx.arange(20).reshape(10, 2), mx.array([[1, 2, 2], [1, 2, 3]])
    first, second = pieces(Call((pixels, grid), {"flag": True})) or ()
    assert first.args[0].tolist() == pixels[:4].tolist()
    assert second.args[0].tolist() == pixels[4:].tolist()
    assert (first.args[1].tolist(), second.args[1].tolist()) == ([[1, 2, 2]], [[1, 2, 3]])
    assert first.kwargs == {"flag": True}
    tiles = mx.zeros((3, 2, 2))
    assert [piece.kwargs["sizes"] for piece in pieces(Call((tiles,), {"sizes": [1, 2, 3]})) or ()] == [[1], [2], [3]]
    assert pieces(Call((pixels, mx.array([[1, 2, 2]])), {})) is None, "a grid of other pixels"
    assert pieces(Call((tiles, mx.zeros((2, 2))), {})) is None, "nobody knows whose those are"
    assert pieces(Call((), {"pixel_values": tiles})) is None


def test_results_are_put_together_whatever_lists_they_come_in() -> None:
    results = [(mx.array([[1]]), [mx.array([[2], [3]])], None), (mx.array([[4]]), [mx.array([[5]])], None)]
    features, layers, nothing = concatenated(results)
    assert (features.tolist(), [layer.tolist() for layer in layers], nothing) == ([[1], [4]], [[[2], [3], [5]]], None)


def test_arrays_of_some_of_the_pictures() -> None:
    arrays = {"image_grid_thw": mx.array([[1, 2, 2], [1, 2, 3]]), "pixel_values": mx.arange(20).reshape(10, 2)}
    assert of_pictures(arrays, 2, 0, 2) is arrays
    for first, rows in ((0, slice(0, 4)), (1, slice(4, 10))):
        own = of_pictures(arrays, 2, first, first + 1)
        assert own is not None
        assert own["pixel_values"].tolist() == arrays["pixel_values"][rows].tolist()
        assert own["image_grid_thw"].tolist() == arrays["image_grid_thw"][first : first + 1].tolist()
    assert of_pictures(arrays, 2, 2, 2) == {}
    assert of_pictures({"pixel_values": mx.zeros((1, 5, 2))}, 3, 1, 3) is None, "tiles of three pictures in one batch"


def test_rows_decode_between_the_pictures_of_a_request(
    sight: Sight, tower: RememberingTower, images: list[Image.Image]
) -> None:
    engine = sight.engine(tower=tower)
    running = sight.sequence(0, said("Hello!"))
    engine.add(running)
    while not running.emitted:
        engine.step()
    several = sight.sequence(1, said("What shape is in the second picture?", *images))
    engine.add(several)
    looked = []
    for _ in images:
        before = len(tower._tower.calls)
        assert engine.step()
        looked.append(len(tower._tower.calls) - before)
    assert looked == [1, 1, 1]
    while engine.busy:
        engine.step()
    assert (several.encoded_media, several.cached_media) == (3, 0)


def test_pictures_of_prompts_that_wait_are_looked_at_in_one_pass(
    sight: Sight, tower: RememberingTower, images: list[Image.Image]
) -> None:
    tower.start_over(separately=True, together=True)
    shown = [(images[0],), (images[1], images[2]), (images[0],), ()]
    messages = [said("What shape is in the first picture?", *own) for own in shown]
    joinable = Joinable(tries=True)
    player = Player(sight.engine(tower=tower, prefill_step_size=256, gap_s=1e6, joinable=joinable))
    sequences = [sight.sequence(n, one) for n, one in enumerate(messages)]
    player.add(*sequences)
    outcomes = player.run()
    assert len(tower._tower.calls) == 1, "each distinct one, and once"
    assert [(one.encoded_media, one.cached_media) for one in sequences] == [(1, 0), (2, 0), (0, 1), (0, 0)]
    assert joinable.kinds, "prompts were read together"
    assert [outcomes[n, 0].tokens for n in range(len(shown))] == [sight.alone(one) for one in messages]


def test_a_result_for_several_pictures_is_taken_apart() -> None:
    features, layer = mx.arange(10).reshape(5, 2), mx.arange(10)
    first, second = apart((features, [layer], None), [4, 6]) or ()
    assert (first[0].tolist(), second[0].tolist()) == (features[:2].tolist(), features[2:].tolist())
    assert (first[1][0].tolist(), second[1][0].tolist(), first[2]) == ([0, 1, 2, 3], [4, 5, 6, 7, 8, 9], None)
    assert apart(features[None], [4, 6]) is None, "in one piece"
    assert apart(mx.array(1), [4, 6]) is None


def test_calls_for_several_pictures_are_put_together_again() -> None:
    call = Call((mx.arange(20).reshape(10, 2), np.array([[1, 2, 2], [1, 2, 3]])), {"sizes": [1, 2], "flag": True})
    again = joined(pieces(call) or [])
    assert again.args[0].tolist() == call.args[0].tolist()
    assert again.args[1].tolist() == call.args[1].tolist()
    assert again.kwargs == call.kwargs


def test_features_of_pictures_that_came_together_hold_only_what_is_counted() -> None:
    mx.clear_cache()
    before = mx.get_active_memory()
    whole = mx.random.normal((30 * 1024, 64), key=mx.random.key(1))
    mx.eval(whole)
    parts = apart([whole], [1] * 30)
    assert parts is not None
    expected = np.array(parts[-1][0])
    memory = FeatureMemory(parts[0][0].nbytes)
    for number, part in enumerate(parts):
        memory.put(bytes([number]), part)
    del whole, parts, part
    mx.clear_cache()
    assert memory.nbytes == 1024 * 64 * 4
    assert mx.get_active_memory() - before < memory.nbytes + (1 << 15)
    assert np.array_equal(np.array(memory.get(bytes([29]))[0]), expected)
