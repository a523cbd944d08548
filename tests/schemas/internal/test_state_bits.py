"""How many bits the KV states of each layer take."""

import pytest

from mlx_server.schemas.internal.state_bits import StateBits


@pytest.mark.parametrize(
    ("given", "count", "layers"),
    [
        ("8", 3, (8, 8, 8)),
        ("4,8x2", 3, (4, 8, 8)),
        ("4x2,8,6x2", 5, (4, 4, 8, 6, 6)),
    ],
)
def test_a_word_gives_each_layer_its_bits(given: str, count: int, layers: tuple[int, ...]) -> None:
    bits = StateBits.parse(given)
    assert bits.of_layers(count) == layers
    assert str(bits) == given


@pytest.mark.parametrize("given", ["", "7", "32", "4x", "x3", "4x0", "4x-1", "4*2", "4,", "4,,8", "08", "8x1001"])
def test_other_words_are_refused_with_those_that_mean_something(given: str) -> None:
    with pytest.raises(ValueError, match=r"is none of 4, 5, 6, 8, nor bits of layers such as 4x12,8x6,4x12"):
        StateBits.parse(given)


def test_bits_of_other_layers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"4x3,8 is for 4 layers, and this model has 5 to be quantised"):
        StateBits.parse("4x3,8").of_layers(5)
