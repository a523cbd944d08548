"""Conversations that are longer than the context, without their oldest turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, Message
from mlx_server.workers.engine.prompt.render import Rendered

OVERFLOW = "context_length_exceeded"


def shortest_cut(
    prompt: ChatPrompt, render: Callable[[ChatPrompt], Rendered], context_length: int, room_share: int
) -> tuple[Rendered, int]:
    """The prompt as it stands if it is shorter than the context; else with as few turns left out as give an answer
    `1 / room_share` of the context, or with all that may be. The number tells how many messages are left out.

    Raises InvalidRequest, also for what does not fit even so. Renders the prompt once for each halving of its turns.
    """

    def tried(cut: int, most: int) -> Rendered | None:
        try:
            rendered = render(without(prompt, units, cut))
        except InvalidRequest as error:
            if error.code != OVERFLOW:
                raise
            return None
        return rendered if len(rendered.tokens) <= most else None

    units = droppable(prompt.messages)
    if (whole := tried(0, context_length - 1)) is not None:
        return whole, 0
    most = context_length - context_length // room_share
    least, enough, best = 1, len(units), None
    while least < enough:
        middle = (least + enough) // 2
        if (rendered := tried(middle, most)) is not None:
            enough, best = middle, rendered
        else:
            least = middle + 1
    dropped = sum(len(unit) for unit in units[:enough])
    return best or render(without(prompt, units, enough)), dropped


def without(prompt: ChatPrompt, units: Sequence[Sequence[int]], cut: int) -> ChatPrompt:
    """The prompt without the messages of the first units."""
    gone = {index for unit in units[:cut] for index in unit}
    kept = tuple(message for index, message in enumerate(prompt.messages) if index not in gone)
    return replace(prompt, messages=kept)


def droppable(messages: Sequence[Message]) -> list[list[int]]:
    """The indices of what may be left out, in groups that are left out as a whole, the oldest first.

    These are all turns before the last one, and of that one all steps (what the model said and called, with the
    results) before the last step. What the system says stays, and what the user said last.
    """
    last = last_turn(messages)
    spoken = [i for i, message in enumerate(messages) if message.role != "system"]
    turns = grouped(messages, [i for i in spoken if i < last], "user")
    steps = grouped(messages, [i for i in spoken if i >= last and messages[i].role != "user"], "assistant")
    return turns + steps[:-1]


def grouped(messages: Sequence[Message], indices: Sequence[int], first: str) -> list[list[int]]:
    """Indices in groups, each of which begins where messages of the role `first` begin."""
    groups: list[list[int]] = []
    before = ""
    for index in indices:
        role = messages[index].role
        if not groups or role == first != before:
            groups.append([])
        groups[-1].append(index)
        before = role
    return groups


def last_turn(messages: Sequence[Message]) -> int:
    """Where the last turn begins: with the first of the user's last messages that stand together; 0 without any."""
    index = max((i for i, message in enumerate(messages) if message.role == "user"), default=0)
    while index > 0 and messages[index - 1].role == "user":
        index -= 1
    return index
