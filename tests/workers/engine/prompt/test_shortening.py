"""Which messages go when a conversation is longer than the context, and how many."""

import pytest

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, Message
from mlx_server.workers.engine.prompt.render import Rendered
from mlx_server.workers.engine.prompt.shortening import OVERFLOW, droppable, shortest_cut

ROLES = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}


def talk(roles: str) -> tuple[Message, ...]:
    return tuple(Message(ROLES[role], f"{n}") for n, role in enumerate(roles))


@pytest.mark.parametrize(
    ("roles", "units"),
    [
        ("u", []),
        ("su", []),
        ("uau", [[0, 1]]),
        ("suauau", [[1, 2], [3, 4]]),
        ("suuatatauu", [[1, 2, 3, 4, 5, 6, 7]]),
        ("uasau", [[0, 1, 3]]),
        ("auau", [[0], [1, 2]]),
        ("uat", []),
        ("suatattat", [[2, 3], [4, 5, 6]]),
        ("uauatat", [[0, 1], [3, 4]]),
        ("uaatat", [[1, 2, 3]]),
        ("ata", [[0, 1]]),
        ("", []),
    ],
)
def test_whole_turns_and_steps_go_and_the_last_stays(roles: str, units: list[list[int]]) -> None:
    assert droppable(talk(roles)) == units


def cut(roles: str, context: int, *, refuses: bool = False) -> tuple[int, int, int]:
    """The tokens and the messages that are left out where each message has 10 tokens, and how often it was rendered."""
    times = 0

    def render(prompt: ChatPrompt) -> Rendered:
        nonlocal times
        times += 1
        tokens = [0] * 10 * len(prompt.messages)
        if refuses and len(tokens) > context:
            raise InvalidRequest("It is too long.", "messages", OVERFLOW)
        return Rendered(tokens)

    rendered, dropped = shortest_cut(ChatPrompt(talk(roles)), render, context, 8)
    return len(rendered.tokens), dropped, times


@pytest.mark.parametrize("refuses", [False, True])
def test_as_little_goes_as_leaves_room_for_an_answer(refuses: bool) -> None:
    assert cut("suauau", 61, refuses=refuses) == (60, 0, 1)
    assert cut("suauau", 60, refuses=refuses)[:2] == (40, 2)
    assert cut("suauau", 44, refuses=refuses)[:2] == (20, 4)
    # Less room than is wanted is better than none.
    assert cut("suauau", 21, refuses=refuses)[:2] == (20, 4)
    tokens, dropped, times = cut("s" + "ua" * 500 + "u", 4000, refuses=refuses)
    assert (tokens, dropped) == (3500, 652)
    assert times <= 11


def test_what_does_not_fit_even_so_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="It is too long"):
        cut("suauau", 19, refuses=True)
    # What the renderer lets pass is for its caller to refuse.
    assert cut("su", 15) == (20, 0, 2)


def test_another_refusal_is_no_reason_to_leave_out_anything() -> None:
    def render(prompt: ChatPrompt) -> Rendered:
        raise InvalidRequest("The template says no.", "messages")

    with pytest.raises(InvalidRequest, match="says no"):
        shortest_cut(ChatPrompt(talk("uau")), render, 100, 8)
