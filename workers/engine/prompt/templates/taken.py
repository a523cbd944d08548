"""Which turns a template takes as they stand, found out by trying it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from mlx_server.schemas.internal.generation import FunctionCall, Message
from mlx_server.workers.engine.prompt.templates.content import ContentForm
from mlx_server.workers.engine.prompt.templates.conversation import to_dicts
from mlx_server.workers.engine.prompt.templates.kinds import ChatTemplate, Conversation
from mlx_server.workers.engine.prompt.templates.tools import PROBE_ARGUMENT, Knowledge, tried

ARGUMENTS = json.dumps({"probe_name": PROBE_ARGUMENT})


class ProbedTurns:
    """Asks the template for what it has not been asked yet.

    Turns are taken if all that they say is in the prompt, and in this order: a template that puts a late system message
    in front of all others changes what the model has already read. Nothing is known of a template that does not show
    even a plain conversation: it is given everything as it stands.
    """

    def __init__(
        self, template: ChatTemplate, arguments: Mapping[str, Any], knows: Callable[[], Knowledge], form: ContentForm
    ) -> None:
        """`knows` is asked only where calls are tried."""
        self._template = template
        self._arguments = arguments
        self._knows = knows
        self._form = form

    @cached_property
    def system(self) -> bool:
        """A system message at the start."""
        return self._takes("system user assistant user")

    @cached_property
    def systems(self) -> bool:
        """Several of them there."""
        return self._takes("system system user")

    @cached_property
    def late_system(self) -> bool:
        """A system message before, between and after other turns' words."""
        late = ("user system", "user system assistant user", "user assistant system user")
        return all(self._takes(f"system {roles}" if self.system else roles) for roles in late)

    @cached_property
    def assistant_first(self) -> bool:
        """An assistant's turn before any user's."""
        return self._takes("assistant user")

    @cached_property
    def users(self) -> bool:
        """A user's turn after a user's."""
        return self._takes("user user assistant user")

    @cached_property
    def assistants(self) -> bool:
        """An assistant's turn after an assistant's."""
        return self._takes("user assistant assistant user")

    @cached_property
    def user_after_result(self) -> bool:
        """A user's turn right after a tool's result."""
        return self._takes("user call result user")

    @cached_property
    def several_calls(self) -> bool:
        """Several calls in one turn."""
        return self._takes("user calls result result assistant user")

    @cached_property
    def words_with_call(self) -> bool:
        """Words and calls in one turn, or at least not in two."""
        if self._takes("user said_call result assistant user"):
            return True
        return not (self.call_after_words or self._shows("user assistant nothing call result assistant user"))

    @cached_property
    def call_after_words(self) -> bool:
        """A turn of calls right after one of the assistant's words."""
        return self._shows("user assistant call result assistant user")

    @cached_property
    def thoughts_before_words(self) -> bool:
        """The reasoning of a call also where a turn of words follows later, or nowhere."""
        calls = "user thought_call result"
        return self._shows(f"{calls} assistant call result") or not self._shows(calls)

    def _takes(self, roles: str) -> bool:
        return self._shows(roles) or not self._readable

    @cached_property
    def _readable(self) -> bool:
        return self._shows("user assistant user")

    def _shows(self, roles: str) -> bool:
        messages, words = conversation_of(roles.split())
        given = to_dicts(messages, self._knows() if "call" in roles else Knowledge(), form=self._form)
        text = tried(self._template, Conversation(given, None, self._arguments))
        place = 0
        for word in words:
            place = text.find(word, place) + len(word)
            if place < len(word):
                return False
        return True


def conversation_of(roles: list[str]) -> tuple[list[Message], list[str]]:
    """Messages of these roles, and the words in them in their order."""
    messages: list[Message] = []
    words: list[str] = []
    results = 0
    for i, role in enumerate(roles):
        word = f"probe_words_{i}_"
        match role:
            case "call" | "calls" | "said_call" | "thought_call":
                said = word if role == "said_call" else ""
                thought = word if role == "thought_call" else None
                words += [thought or said]
                names = [f"probe_name_{j}_" for j in range(2 if role == "calls" else 1)]
                calls = tuple(FunctionCall(call_id(j), name, ARGUMENTS) for j, name in enumerate(names))
                messages.append(Message("assistant", said, reasoning=thought, tool_calls=calls))
                words += names
            case "result":
                messages.append(Message("tool", word, name=f"probe_name_{results}_", tool_call_id=call_id(results)))
                words.append(word)
                results += 1
            case "nothing":
                messages.append(Message("user", ""))
            case _:
                messages.append(Message(role, word))
                words.append(word)
    return messages, words


def call_id(number: int) -> str:
    """One that all templates take."""
    return f"probecal{number}"
