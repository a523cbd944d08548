"""`/v1/cache/explain`: how much of a prompt is known, and where it differs from what is kept."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mlx_server.schemas.internal.messages import KeptPrefix, PrefixOf
from mlx_server.schemas.tokens import TokenizeRequest


class ExplainRequest(TokenizeRequest, frozen=True, kw_only=True):
    """What `/tokenize` takes, the adapter that the prompt would be read with, and its salt."""

    adapters: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    cache_salt: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None

    def prefix_of(self, tenant: str) -> PrefixOf:
        """The inside type. Raises InvalidRequest."""
        question = self.question()
        return PrefixOf(question.prompt, question.tool_use, tenant, self.adapters)


class Nearest(msgspec.Struct, frozen=True):
    """What is kept and most alike: of its `tokens`, the first `alike_tokens` are the prompt's too."""

    tokens: int
    alike_tokens: int


class Divergence(msgspec.Struct, frozen=True):
    """Where the prompt is another one: the index of the token, as the vocabulary writes it, and of the message."""

    token: int
    text: str | None
    message: int | None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """`cached_tokens` would not be computed again. `diverged_at` is null where one just goes on from the other."""

    object: Literal["cache.explanation"] = "cache.explanation"
    prompt_tokens: int
    cached_tokens: int
    nearest: Nearest | None
    diverged_at: Divergence | None


def explanation(known: KeptPrefix) -> Explanation:
    """The outside type."""
    diverged = known.alike < min(known.count, known.nearest)
    return Explanation(
        prompt_tokens=known.count,
        cached_tokens=known.cached,
        nearest=Nearest(known.nearest, known.alike) if known.nearest else None,
        diverged_at=Divergence(known.alike, known.piece, known.message) if diverged else None,
    )


explain_decoder = msgspec.json.Decoder(ExplainRequest)
