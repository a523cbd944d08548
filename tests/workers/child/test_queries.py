"""What the worker makes of questions about prompts."""

from __future__ import annotations

from mlx_server.schemas.internal.generation import Prompt, TextPrompt, ToolUse
from mlx_server.schemas.internal.messages import Tokens, TokensOf
from mlx_server.workers.child.queries import answer_to
from mlx_server.workers.handlers.scripted import ScriptedHandler


class _Known(ScriptedHandler):
    """Remembers whose prompts it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.tenants: list[str | None] = []

    def tokens(self, prompt: Prompt, tool_use: ToolUse, tenant: str | None = None) -> list[int]:
        self.tenants.append(tenant)
        return super().tokens(prompt, tool_use, tenant)


def test_tokens_are_counted_for_who_may_have_sent_them_before() -> None:
    handler = _Known()
    try:
        assert answer_to(TokensOf(TextPrompt("a"), want="count", tenant="me"), handler) == Tokens(1)
    finally:
        handler.close()
    assert handler.tenants == ["me"]
