"""Renders clients' templates, in a process that can be killed."""

from __future__ import annotations

from typing import Any

from mlx_server.workers.engine.sandbox.host import KillableProcess, Stopped

CHILD = "mlx_server.workers.engine.prompt.templates.child"

TemplateStopped = Stopped


class TemplateFailed(Exception):  # noqa: N818 - named for what happened
    """Raised when a template is no template, or stops with an error."""


class TemplateRefused(Exception):  # noqa: N818 - named for what happened
    """Raised when a template refuses the conversation with an exception of its own."""


class Sandbox(KillableProcess):
    """Renders templates that nobody vouches for, one at a time. Use it on one thread; `close` from any."""

    def __init__(self, *, limit_s: float = 2.0, memory_bytes: int = 512 << 20) -> None:
        super().__init__(CHILD, limit_s=limit_s, cpu_s=int(limit_s) + 1, memory_bytes=memory_bytes)

    def render(self, template: str, context: dict[str, Any], deadline: float) -> str:
        """The text. Raises TemplateStopped, TemplateFailed and TemplateRefused."""
        return str(self._work({"template": template, "context": context}, deadline)["text"])

    def variables(self, template: str, deadline: float) -> frozenset[str]:
        """What it reads from outside. Raises TemplateStopped and TemplateFailed."""
        return frozenset(self._work({"template": template, "context": None}, deadline)["variables"])

    def _work(self, request: dict[str, Any], deadline: float) -> dict[str, Any]:
        answer = self.ask(request, deadline)
        if "refused" in answer:
            raise TemplateRefused(answer["refused"])
        if "failed" in answer:
            raise TemplateFailed(answer["failed"])
        return answer
