"""Which variables a template is given: the server's, the client's, and what asks for more or less reasoning."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import Template
from mlx_server.workers.engine.templates.kinds import ChatTemplate

KWARGS = "chat_template_kwargs"
THINKING_SWITCHES = ("enable_thinking", "thinking")
QUIET_EFFORTS = ("none", "minimal")
RENDERING = inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters.keys() - {"documents"}
"""What is said to the one who renders, not to the template."""

RESERVED = frozenset({"messages", *RENDERING, *PreTrainedTokenizerBase.SPECIAL_TOKENS_ATTRIBUTES})
"""Names that nobody may give."""


class Arguments:
    """The variables that one template takes."""

    def __init__(self, template: ChatTemplate, special_tokens: Mapping[str, Any]) -> None:
        """Raises InvalidRequest for a client's template that is none."""
        self._reserved = RESERVED | special_tokens.keys()
        self._read = template.variables()
        self._thinks = template.thinks()

    @property
    def known(self) -> list[str]:
        """The names that may be given."""
        return sorted((self._read or frozenset()) - self._reserved)

    def of(self, asked: Template, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """What `asked` gives, else those of the defaults that the template knows. Raises InvalidRequest for what
        it does not know."""
        given = self.checked(asked.arguments)
        fitting = {self._named(name): value for name, value in defaults.items() if self._takes(self._named(name))}
        return {**fitting, **self._effort(asked, given), **self._thinking(asked.thinking), **given}

    def checked(self, given: Mapping[str, Any], param: str = KWARGS) -> dict[str, Any]:
        """What can be given to the template. Raises InvalidRequest for the rest; `param` is where it stands."""
        arguments = {}
        for name, value in given.items():
            if name in self._reserved:
                raise InvalidRequest(f"`{param}.{name}` can't be set: the server gives it.", f"{param}.{name}")
            if self._takes(self._named(name)):
                arguments[self._named(name)] = value
            elif name not in THINKING_SWITCHES or value is not False or self._thinks:
                message = f"`{param}.{name}`: the chat template has no such variable; {self._allowed()}."
                raise InvalidRequest(message, f"{param}.{name}")
        return arguments

    def _named(self, name: str) -> str:
        """Some templates have another name for the one switch that everybody knows."""
        return "thinking" if name == "enable_thinking" and not self._takes(name) and self._takes("thinking") else name

    def _takes(self, name: str) -> bool:
        if self._read is None:  # a function that takes any name: what it does not know, it refuses
            return name != "reasoning_effort" and (name not in THINKING_SWITCHES or self._thinks)
        return name in self._read

    def _allowed(self) -> str:
        return f"it knows {', '.join(self.known)}" if self.known else "it has none"

    @property
    def _switch(self) -> str | None:
        return next((name for name in THINKING_SWITCHES if self._takes(name)), None)

    def _thinking(self, wanted: bool | None) -> dict[str, Any]:
        if wanted is None:
            return {}
        if (switch := self._switch) is not None:
            return {switch: wanted}
        if wanted != self._thinks:
            why = "this model does not reason" if wanted else "this model always reasons"
            raise InvalidRequest(f"`thinking`: {why}: its chat template has no way to change that.", "thinking")
        return {}

    def _effort(self, asked: Template, given: Mapping[str, Any]) -> dict[str, Any]:
        effort = asked.effort
        if effort is None or "reasoning_effort" in given:
            return {}
        switch = self._switch
        if self._takes("reasoning_effort"):
            switched = {} if switch is None else {switch: effort != "none"}
            return {"reasoning_effort": effort, **switched}
        if switch is not None:
            return {switch: effort not in QUIET_EFFORTS}
        if effort == "none" and not self._thinks:
            return {}
        raise InvalidRequest(
            f"`{asked.effort_param}`: this model's chat template has no way to ask for more or less reasoning.",
            asked.effort_param,
        )
