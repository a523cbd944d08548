"""Which variables a template is given: the server's, the client's, and what asks for more or less reasoning."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Template
from mlx_server.workers.engine.prompt.templates.efforts import nearest
from mlx_server.workers.engine.prompt.templates.kinds import ChatTemplate, Conversation
from mlx_server.workers.engine.prompt.templates.tools import tried

KWARGS = "chat_template_kwargs"
THINKING_SWITCHES = ("enable_thinking", "thinking")
QUIET_EFFORTS = ("none", "minimal")
RENDERING = inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters.keys() - {"documents"}
"""What is said to the one who renders, not to the template."""

RESERVED = frozenset({"messages", *RENDERING, *PreTrainedTokenizerBase.SPECIAL_TOKENS_ATTRIBUTES})
"""Names that nobody may give."""


@dataclass(frozen=True)
class Settled:
    """What a template is given, and the paths of what was asked and changes nothing."""

    arguments: dict[str, Any]
    ignored: tuple[str, ...] = ()


NOTHING = Settled({})


class Arguments:
    """The variables that one template takes."""

    def __init__(self, template: ChatTemplate, special_tokens: Mapping[str, Any]) -> None:
        """Raises InvalidRequest for a client's template that is none."""
        self._reserved = RESERVED | special_tokens.keys()
        self._template = template
        self._read = template.variables()
        self._thinks = template.thinks()

    @property
    def known(self) -> list[str]:
        """The names that may be given."""
        return sorted((self._read or frozenset()) - self._reserved)

    def settle(self, asked: Template, defaults: Mapping[str, Any]) -> Settled:
        """What `asked` gives, else those of the defaults that the template knows. Raises InvalidRequest for names that
        are the server's."""
        given = self._given(asked.arguments)
        fitting = {self._named(name): value for name, value in defaults.items() if self._takes(self._named(name))}
        effort, thinking = self._effort(asked, given.arguments), self._thinking(asked.thinking)
        return Settled(
            {**fitting, **effort.arguments, **thinking.arguments, **given.arguments},
            effort.ignored + thinking.ignored + given.ignored,
        )

    def check(self, given: Mapping[str, Any], param: str) -> None:
        """Raises InvalidRequest for what the template does not know; `param` is where it stands."""
        for name, value in given.items():
            self._check_free(name, param)
            if not self._takes(self._named(name)) and not (name in THINKING_SWITCHES and self._is_so(value)):
                message = f"`{param}.{name}`: the chat template has no such variable; {self._allowed()}."
                raise InvalidRequest(message, f"{param}.{name}")

    def _given(self, given: Mapping[str, Any]) -> Settled:
        arguments, ignored = {}, []
        for name, value in given.items():
            self._check_free(name, KWARGS)
            if self._takes(self._named(name)) and self._bears(self._named(name), value):
                arguments[self._named(name)] = value
            elif name not in THINKING_SWITCHES or not self._is_so(value):
                ignored.append(f"{KWARGS}.{name}")
        return Settled(arguments, tuple(ignored))

    def _check_free(self, name: str, param: str) -> None:
        if name in self._reserved:
            raise InvalidRequest(f"`{param}.{name}` can't be set: the server gives it.", f"{param}.{name}")

    def _named(self, name: str) -> str:
        """Some templates have another name for the one switch that everybody knows."""
        if name not in THINKING_SWITCHES or self._takes(name):
            return name
        return next((other for other in THINKING_SWITCHES if self._takes(other)), name)

    def _takes(self, name: str) -> bool:
        if self._read is None:  # a function that takes any name: what it does not know, it refuses
            return name != "reasoning_effort" and (name not in THINKING_SWITCHES or self._thinks)
        return name in self._read

    def _bears(self, name: str, value: Any) -> bool:
        """A function is tried: it tells no other way what it knows."""
        if not self._template.opaque:
            return True
        return bool(tried(self._template, Conversation([{"role": "user", "content": "probe"}], None, {name: value})))

    def _is_so(self, thinking: Any) -> bool:
        """The model reasons, or does not, as it is asked to."""
        return isinstance(thinking, bool) and thinking == self._thinks

    def _allowed(self) -> str:
        return f"it knows {', '.join(self.known)}" if self.known else "it has none"

    @property
    def _switch(self) -> str | None:
        return next((name for name in THINKING_SWITCHES if self._takes(name)), None)

    def _thinking(self, wanted: bool | None) -> Settled:
        if wanted is None:
            return NOTHING
        if (switch := self._switch) is not None:
            return Settled({switch: wanted})
        return NOTHING if self._is_so(wanted) else Settled({}, ("thinking",))

    def _effort(self, asked: Template, given: Mapping[str, Any]) -> Settled:
        effort = asked.effort
        if effort is None or "reasoning_effort" in given:
            return NOTHING
        switch, ignored = self._switch, (asked.effort_param,)
        if self._takes("reasoning_effort"):
            degree = nearest(effort, self._template.efforts())
            if switch is not None:
                return Settled({"reasoning_effort": degree, switch: effort != "none"})
            return Settled({"reasoning_effort": degree}, ignored if effort == "none" != degree else ())
        if switch is not None:
            return Settled({switch: effort not in QUIET_EFFORTS})
        return NOTHING if effort == "none" and not self._thinks else Settled({}, ignored)
