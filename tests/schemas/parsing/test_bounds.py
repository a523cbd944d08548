from typing import Any

import pytest

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.parsing.bounds import MAX_CHARACTERS, MAX_DEPTH, MAX_VALUES, check_json


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"a": [True, 1.5, "b", None, {"c": -(2**63)}], "d": 2**64 - 1},
        [0] * (MAX_VALUES - 1),
        "x" * MAX_CHARACTERS,
        nested(MAX_DEPTH),
    ],
    ids=range(6),
)
def test_a_value_within_the_bounds_passes(value: Any) -> None:
    check_json(value, "field")


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ({"a": 2**64}, "64 bits"),
        ([-(2**63) - 1], "64 bits"),
        ([0] * MAX_VALUES, f"{MAX_VALUES} values"),
        ({"x" * MAX_CHARACTERS: "y"}, f"{MAX_CHARACTERS} characters"),
        (nested(MAX_DEPTH + 1), f"{MAX_DEPTH} levels"),
    ],
    ids=range(5),
)
def test_a_value_beyond_a_bound_is_refused_with_the_bound(value: Any, part: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_json(value, "field")
    assert caught.value.param == "field"
    assert part in caught.value.message
