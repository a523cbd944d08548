from collections.abc import Sequence

import numpy as np
import pytest

from mlx_server.workers.engine.computation import Item, Rows
from mlx_server.workers.engine.passes import in_passes, passes


@pytest.mark.parametrize(
    ("lengths", "most", "rows"),
    [
        ([], 8, []),
        ([9], 8, [1]),
        ([9, 9], 8, [1, 1]),
        ([4, 4, 4], 8, [2, 1]),
        ([4, 1, 1, 1, 1, 1], 8, [2, 4]),
        ([8, 4, 4, 2, 2, 2, 2, 1], 8, [1, 2, 4, 1]),
    ],
)
def test_passes_keep_to_their_size_when_padded(lengths: list[int], most: int, rows: list[int]) -> None:
    parts = list(passes(lengths, most))
    assert [len(lengths[part]) for part in parts] == rows
    assert [length for part in parts for length in lengths[part]] == lengths


def test_rows_come_back_in_the_inputs_order() -> None:
    seen: list[list[int]] = []

    def sums(items: Sequence[Item]) -> Rows:
        seen.append([len(item.ids) for item in items])
        return np.array([[sum(item.ids)] for item in items], dtype=np.float32)

    items = [Item((1,)), Item((2,) * 5), Item((3,)), Item((4,) * 2), Item((5,) * 5)]
    assert in_passes(sums, 6)(items).ravel().tolist() == [1, 10, 3, 8, 25]
    assert seen == [[5], [5], [2, 1, 1]]
