"""Only a note about what differs announces it."""

import pytest
from fidelity.explained import Place, judged

EARLY, LATE = Place(1, 100, "early"), Place(99, 100, "late")
WINDOW = "mlx-lm does not compute the sliding window of 48 tokens that config.json names: in longer prompts, …"
SHORT = "texts of up to 128 tokens are computed with the factors of longer ones (longrope)"
MENDED = "rotary positions of 4 layers follow config.json, which mlx-lm reads in part"
TYPE = "mlx-lm computes this type differently from transformers: the shares of the chosen experts …"


@pytest.mark.parametrize(
    ("notes", "early", "late", "state", "told"),
    [
        ([], 0.0, 0.0, "equal", ""),
        ([MENDED], 0.0, 0.0, "equal", MENDED),
        ([], 0.0, 0.5, "silent", "0.5000 late"),
        ([MENDED], 0.0, 0.5, "silent", "0.5000 late"),
        ([WINDOW, MENDED], 0.0, 0.5, "announced", WINDOW),
        ([WINDOW], 0.5, 0.5, "silent", "0.5000 early"),
        ([SHORT], 0.5, 0.5, "announced", SHORT),
        ([TYPE, WINDOW], 0.5, 0.5, "announced", f"{TYPE}; {WINDOW}"),
        ([], 0.0, float("nan"), "silent", "nan late"),
    ],
)
def test_a_difference_is_announced_by_a_note_about_it(
    notes: list[str], early: float, late: float, state: str, told: str
) -> None:
    assert judged(notes, [(EARLY, early), (LATE, late)], 1e-3) == (state, told)


def test_longer_texts_than_a_note_speaks_of_are_not_announced_by_it() -> None:
    assert judged([SHORT], [(Place(1, 320, "early"), 0.5)], 1e-3)[0] == "silent"
