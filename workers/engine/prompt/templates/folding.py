"""Conversations that a template does not take as they stand, folded by one rule. Pure: others ask what it takes.

What was said stays where it stands, so that a conversation that goes on has the prompt of the shorter one at its
beginning: nothing moves up, and only the system's first words go into another turn than their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

import msgspec

from mlx_server.schemas.internal.generation import Message
from mlx_server.workers.engine.prompt.templates.content import appended, wrapped

BETWEEN_TURNS = "\n\n"
"""What stands between turns that are made one."""

SAID_LATE = ("<system>\n", "\n</system>")
"""Round what the system says in a user's turn."""

SAID_AFTER_RESULT = ("<user>\n", "\n</user>")
"""Round what the user says in a tool's result."""


class Turns(Protocol):
    """Which turns a template takes as they stand; each is asked only where the conversation has such."""

    @property
    def system(self) -> bool:
        """A system message at the start."""

    @property
    def systems(self) -> bool:
        """Several of them there."""

    @property
    def late_system(self) -> bool:
        """A system message anywhere else, and shown there."""

    @property
    def assistant_first(self) -> bool:
        """An assistant's turn before any user's."""

    @property
    def users(self) -> bool:
        """A user's turn after a user's."""

    @property
    def assistants(self) -> bool:
        """An assistant's turn after an assistant's."""

    @property
    def user_after_result(self) -> bool:
        """A user's turn right after a tool's result."""

    @property
    def several_calls(self) -> bool:
        """Several calls in one turn."""

    @property
    def words_with_call(self) -> bool:
        """Words and calls in one turn, or at least not in two."""

    @property
    def call_after_words(self) -> bool:
        """A turn of calls right after one of the assistant's words."""

    @property
    def thoughts_before_words(self) -> bool:
        """The reasoning of a call also where a turn of words follows later, or nowhere."""


@dataclass(frozen=True)
class KnownTurns:
    """What is taken, where it is known."""

    system: bool = True
    systems: bool = True
    late_system: bool = True
    assistant_first: bool = True
    users: bool = True
    assistants: bool = True
    user_after_result: bool = True
    several_calls: bool = True
    words_with_call: bool = True
    call_after_words: bool = True
    thoughts_before_words: bool = True


NONE_TAKEN = KnownTurns(*[False] * 8)
"""Nothing but user and assistant in turn, with calls one by one: two turns for words and a call would be too many."""


def fold(messages: Sequence[Message], takes: Turns) -> list[Message]:
    """The conversation in turns that are taken; what is taken stays as it is.

    - System messages at the start are joined; without a system role they stand before the first user's words.
    - A later one becomes the user's, in `<system>` tags, where it stands; never between a call and its results.
    - An empty user's turn comes before an assistant that speaks first.
    - Neighbours of one role are joined with an empty line.
    - What a user says right after a tool's result is joined to that, in `<user>` tags; with media, an empty assistant's
      turn comes between.
    - Words beside a call come in a turn before it, with an empty user's turn between if need be. Where that would hide
      the reasoning of calls that no words follow yet, they are a part of it instead.
    - Calls of one turn are made one by one, each with its result.
    """
    head = list(takewhile(is_system, messages))
    made = folded_head(head, takes)
    for i, message in enumerate(one_by_one(after_results(messages[len(head) :], takes), takes)):
        if is_system(message) and not takes.late_system:
            message = msgspec.structs.replace(wrapped(message, *SAID_LATE), role="user", name=None)
        if message.role == "assistant" and all(map(is_system, made)) and not takes.assistant_first:
            made.append(Message("user", ""))
        add(made, message, takes, begins=i == 0 and bool(head) and message.role == "user" and not takes.system)
    return made


def is_system(message: Message) -> bool:
    """The system says it."""
    return message.role == "system"


def folded_head(head: list[Message], takes: Turns) -> list[Message]:
    """What the system says at the start: as it is, in one message, or as the user's."""
    if not head or (takes.system and (len(head) == 1 or takes.systems)):
        return head
    first, *others = head
    for other in others:
        first = joined(first, other)
    return [first if takes.system else msgspec.structs.replace(first, role="user", name=None)]


def add(made: list[Message], message: Message, takes: Turns, *, begins: bool) -> None:
    """Put a message to the others, or into the last of them. `begins`: there stands what the system said, and waits for
    the user."""
    last = made[-1] if made else None
    if last is None or (not begins and follows(last, message, takes)):
        made.append(message)
    elif last.role != "tool":
        made[-1] = joined(last, message)
    elif message.media:
        made += [Message("assistant", ""), message]
    else:
        made[-1] = joined(last, wrapped(message, *SAID_AFTER_RESULT))


def follows(last: Message, message: Message, takes: Turns) -> bool:
    """The one may be a turn of its own after the other."""
    match last.role, message.role:
        case "user", "user":
            return takes.users
        case "assistant", "assistant":
            return takes.assistants or bool(last.content and message.tool_calls and not takes.words_with_call)
        case "tool", "user":
            return takes.user_after_result
        case _:
            return True


def joined(first: Message, second: Message) -> Message:
    """Two messages as one of the first's role, with an empty line between."""
    return msgspec.structs.replace(
        appended(first, second, BETWEEN_TURNS),
        name=first.name if first.role == "tool" or first.name == second.name else None,
        reasoning=BETWEEN_TURNS.join(filter(None, (first.reasoning, second.reasoning))) or None,
        tool_calls=first.tool_calls + second.tool_calls,
    )


def after_results(messages: Sequence[Message], takes: Turns) -> list[Message]:
    """The same with what the system says between a call and its results after these, if it is to become a turn."""
    made: list[Message] = []
    waiting: list[Message] = []
    for message in messages:
        last = made[-1] if made else None
        called = last is not None and (last.role == "tool" or bool(last.tool_calls))
        if called and is_system(message) and not takes.late_system:
            waiting.append(message)
            continue
        if message.role != "tool":
            made += waiting
            waiting = []
        made.append(message)
    return made + waiting


def one_by_one(messages: list[Message], takes: Turns) -> list[Message]:
    """The same with each call in a turn of its own before its result, and after its turn's words, where one turn can't
    hold them."""
    made: list[Message] = []
    messages = words_as_reasoning(messages, takes)
    given = iter(enumerate(messages))
    for i, message in given:
        if message.tool_calls and message.content and not takes.words_with_call:
            made.append(msgspec.structs.replace(message, tool_calls=()))
            if not takes.call_after_words:
                made.append(Message("user", ""))
            message = msgspec.structs.replace(message, content="", reasoning=None)
        if len(message.tool_calls) < 2 or takes.several_calls:
            made.append(message)
            continue
        results = list(takewhile(lambda one: one.role == "tool", messages[i + 1 :]))
        pairs = apart(message, results)
        made += pairs or [message, *results]
        for _ in results:
            next(given)
    return made


def words_as_reasoning(messages: list[Message], takes: Turns) -> list[Message]:
    """The same with words beside the last calls as a part of their reasoning, if there is any and words in turns of
    their own would hide it."""
    last = max((i for i, one in enumerate(messages) if one.role == "assistant" and not one.tool_calls), default=-1)
    calls = [one for one in messages[last + 1 :] if one.tool_calls]
    thought, said = any(one.reasoning for one in calls), any(one.content for one in calls)
    if not (thought and said) or takes.words_with_call or takes.thoughts_before_words:
        return messages
    return messages[: last + 1] + [thinking_its_words(one) if one.tool_calls else one for one in messages[last + 1 :]]


def thinking_its_words(message: Message) -> Message:
    """The message with its words behind its reasoning."""
    reasoning = BETWEEN_TURNS.join(filter(None, (message.reasoning, message.content))) or None
    return msgspec.structs.replace(message, content="", reasoning=reasoning)


def apart(message: Message, results: list[Message]) -> list[Message]:
    """The calls of a message, each with its result; none if there is not just one for each."""
    by_id = {result.tool_call_id: result for result in results}
    if len(results) != len(message.tool_calls) or by_id.keys() != {call.id for call in message.tool_calls}:
        return []
    made = []
    for i, call in enumerate(message.tool_calls):
        said = message if i == 0 else Message("assistant", "")
        made += [msgspec.structs.replace(said, tool_calls=(call,)), by_id[call.id]]
    return made
