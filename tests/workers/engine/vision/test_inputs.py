from mlx_server.workers.engine.vision.placeholders import Place, Placeholders, placed, placeholder_runs

A, B, C = (("image", b"a"), ("image", b"b"), ("audio", b"c"))
PAD, HUM = 9, 8
PADS: Placeholders = {PAD: "image", HUM: "audio"}


def test_runs_of_placeholders_are_found() -> None:
    assert placeholder_runs([PAD, PAD, 1, PAD, 2], PADS) == [("image", 0, 2), ("image", 3, 4)]
    assert placeholder_runs([PAD, HUM, HUM], PADS) == [("image", 0, 1), ("audio", 1, 3)]
    assert placeholder_runs([1, 2], PADS) == []
    assert placeholder_runs([], PADS) == []


def test_each_picture_has_one_run() -> None:
    assert placed([1, PAD, PAD, 2, PAD], PADS, [A, B]) == (Place(1, 3, b"a"), Place(4, 5, b"b"))


def test_a_single_picture_may_have_several_runs() -> None:
    """Rows of a picture, with a mark at the end of each."""
    assert placed([1, PAD, PAD, 2, PAD, PAD, 2, 3], PADS, [A]) == (Place(1, 6, b"a"),)


def test_a_sound_is_not_taken_for_a_picture_where_a_template_moves_it() -> None:
    picture, sound = Place(0, 2, b"a"), Place(2, 3, b"c", "audio")
    assert placed([PAD, PAD, HUM, 1], PADS, [A, C]) == (picture, sound)
    assert placed([PAD, PAD, HUM, 1], PADS, [C, A]) == (picture, sound)


def test_pictures_that_cannot_be_told_apart_take_the_whole_prompt() -> None:
    assert placed([1, PAD, PAD, 2], PADS, [A, B]) == (Place(0, 4, b"ab"),)
    assert placed([1, 2], PADS, [A]) == (Place(0, 2, b"a"),)
    assert placed([1, PAD, 2], PADS, [A, C]) == (Place(0, 3, b"ac"),)
