from mlx_server.workers.engine.vision.inputs import Picture, placed, placeholder_runs

A, B = b"a", b"b"
PAD = 9


def test_runs_of_placeholders_are_found() -> None:
    assert placeholder_runs([PAD, PAD, 1, PAD, 2], {PAD}) == [(0, 2), (3, 4)]
    assert placeholder_runs([1, 2], {PAD}) == []
    assert placeholder_runs([], {PAD}) == []


def test_each_picture_has_one_run() -> None:
    assert placed([1, PAD, PAD, 2, PAD], {PAD}, [A, B]) == (Picture(1, 3, A), Picture(4, 5, B))


def test_a_single_picture_may_have_several_runs() -> None:
    """Rows of a picture, with a mark at the end of each."""
    assert placed([1, PAD, PAD, 2, PAD, PAD, 2, 3], {PAD}, [A]) == (Picture(1, 6, A),)


def test_pictures_that_cannot_be_told_apart_take_the_whole_prompt() -> None:
    assert placed([1, PAD, PAD, 2], {PAD}, [A, B]) == (Picture(0, 4, b"ab"),)
    assert placed([1, 2], {PAD}, [A]) == (Picture(0, 2, A),)
