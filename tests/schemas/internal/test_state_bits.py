"""How many bits the KV states of each layer take."""

import pytest

from mlx_server.schemas.internal.state_bits import StateBits


@pytest.mark.parametrize(
    ("given", "count", "layers"),
    [
        ("8", 3, [8, 8, 8]),
        ("4:8", 1, [8]),
        ("4:8", 4, [8, 4, 4, 8]),
        ("4:8", 16, [8, 8, *[4] * 12, 8, 8]),
        ("8:4", 9, [4, *[8] * 7, 4]),
    ],
)
def test_a_word_gives_each_layer_its_bits(given: str, count: int, layers: list[int]) -> None:
    bits = StateBits.parse(given)
    assert bits.of_layers(count) == layers
    assert str(bits) == given


@pytest.mark.parametrize("given", ["", "7", "3", "32", "4:", ":8", "4:7", "4:6:8", "4,8", "eight", "-4", "08"])
def test_other_words_are_refused_with_those_that_mean_something(given: str) -> None:
    with pytest.raises(ValueError, match=r"is none of 4, 5, 6, 8, nor two of them such as 4:8"):
        StateBits.parse(given)
