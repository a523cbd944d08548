"""The engine with a model that is a function: each input's row is the sum of its ids."""

from collections.abc import Callable, Sequence

import numpy as np

from mlx_server.schemas.internal.messages import Vector
from mlx_server.workers.engine.embed.engine import EmbeddingEngine
from mlx_server.workers.engine.embed.inputs.job import EmbeddingJob, Item, Rows, computation
from mlx_server.workers.engine.embed.results import Vectors
from mlx_server.workers.engine.sequence import Broken, Computed, Produced


def _sums(items: Sequence[Item]) -> Rows:
    return np.array([[sum(item.ids)] for item in items], dtype=np.float32)


def _request(ticket: int, *inputs: list[int]) -> EmbeddingJob:
    return computation(ticket, [Item(tuple(ids)) for ids in inputs], Vectors(ticket))


def _values(produced: Sequence[Produced], ticket: int) -> dict[int, float]:
    results = [result for item in produced if isinstance(item, Computed) for result in item.results]
    vectors = [result for result in results if isinstance(result, Vector) and result.ticket == ticket]
    return {vector.index: float(np.frombuffer(vector.values, "<f4")[0]) for vector in vectors}


def _run(engine: EmbeddingEngine) -> list[Produced]:
    produced = []
    while engine.busy:
        produced += engine.step()
    return produced


def _watched(seen: list[int], compute: Callable[[Sequence[Item]], Rows] = _sums) -> Callable[[Sequence[Item]], Rows]:
    def watching(items: Sequence[Item]) -> Rows:
        seen.append(len(items))
        return compute(items)

    return watching


def test_each_input_gets_its_own_row_and_one_end_comes_last() -> None:
    engine = EmbeddingEngine(_sums, batch_tokens=6)
    engine.add(_request(1, [1], [2, 2, 2], [3, 3], [4, 4, 4]))
    produced = _run(engine)
    assert _values(produced, 1) == {0: 1, 1: 6, 2: 6, 3: 12}
    assert [item.finish for item in produced if isinstance(item, Computed)][:-1] == [None] * (len(produced) - 1)
    assert isinstance(produced[-1], Computed)
    assert produced[-1].finish == "stop"


def test_what_was_made_of_pictures_goes_once_they_are_computed() -> None:
    engine = EmbeddingEngine(_sums, batch_tokens=2)
    request = computation(1, [Item((1,) * length, prepared="pixels") for length in (2, 1, 3)], Vectors(1))
    engine.add(request)
    held = []
    while engine.busy:
        engine.step()
        held.append([item.prepared for item in request.items])
    assert held == [["pixels", "pixels", None], [None, "pixels", None], [None, None, None]]
    assert request.prompt_tokens == 6


def test_small_requests_pass_a_large_one_and_it_goes_on() -> None:
    seen: list[int] = []
    engine = EmbeddingEngine(_watched(seen), batch_tokens=8)
    engine.add(_request(1, *([1, 1] for _ in range(20))))
    engine.step()
    engine.add(_request(2, [5]))
    engine.add(_request(3, [7]))
    produced = engine.step()
    assert _values(produced, 2) == {0: 5}
    assert _values(produced, 3) == {0: 7}
    assert len(_values(produced, 1)) == 2
    _run(engine)
    assert seen == [4, 4, 4, 4, 4, 2]


def test_requests_that_have_more_inputs_take_turns_to_be_first() -> None:
    engine = EmbeddingEngine(_sums, batch_tokens=3)
    engine.add(_request(1, [1, 1, 1], [1, 1, 1]))
    engine.add(_request(2, [2, 2, 2], [2, 2, 2]))
    assert [item.key[0] for item in _run(engine)] == [1, 2, 1, 2]


def test_a_request_that_leaves_is_not_computed_further() -> None:
    seen: list[int] = []
    engine = EmbeddingEngine(_watched(seen), batch_tokens=2)
    engine.add(_request(1, [1], [1], [1], [1]))
    engine.step()
    engine.remove((1, 0))
    engine.remove((9, 0))
    assert not engine.busy
    assert seen == [2]


def test_only_the_guilty_request_ends_when_a_pass_raises() -> None:
    def raising(items: Sequence[Item]) -> Rows:
        if any(13 in item.ids for item in items):
            raise ValueError("thirteen")
        return _sums(items)

    engine = EmbeddingEngine(raising, batch_tokens=100)
    engine.add(_request(1, [1], [2]))
    engine.add(_request(2, [13], [2]))
    engine.add(_request(3, [3]))
    produced = _run(engine)
    assert [item for item in produced if isinstance(item, Broken)] == [Broken((2, 0), "ValueError: thirteen")]
    assert _values(produced, 1) == {0: 1, 1: 2}
    assert _values(produced, 3) == {0: 3}


def test_what_is_not_a_number_ends_its_request_and_no_other() -> None:
    def bottomless(items: Sequence[Item]) -> Rows:
        return np.where(_sums(items) == 13, np.nan, _sums(items)).astype(np.float32)

    engine = EmbeddingEngine(bottomless, batch_tokens=100)
    engine.add(_request(1, [1]))
    engine.add(_request(2, [13]))
    produced = _run(engine)
    assert [item.key for item in produced if isinstance(item, Broken)] == [(2, 0)]
    assert _values(produced, 1) == {0: 1}
    assert _values(produced, 2) == {}
