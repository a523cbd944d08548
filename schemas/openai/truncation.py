"""How a request says that texts may be cut off: fields that embeddings and scores have in common, as in vLLM."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mlx_server.schemas.internal.embedding import Truncation
from mlx_server.schemas.internal.errors import InvalidRequest


class TruncationFields(msgspec.Struct, frozen=True, kw_only=True):
    """`truncate_prompt_tokens` is how many tokens a longer text keeps, -1 as many as the model takes.

    `truncation_side` is the side that is cut off.
    """

    truncate_prompt_tokens: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    truncation_side: Literal["left", "right"] | None = None

    def truncation(self) -> Truncation | None:
        """The inside type, None where nothing may be cut off. Raises InvalidRequest."""
        return truncation_of(self.truncate_prompt_tokens, self.truncation_side, "truncate_prompt_tokens")


def truncation_of(tokens: int | None, side: Literal["left", "right"] | None, param: str) -> Truncation | None:
    """What may be cut off; `param` names the number in a refusal. Raises InvalidRequest."""
    if tokens is None:
        if side is not None:
            raise InvalidRequest(f"`truncation_side` is only allowed with `{param}`.", "truncation_side")
        return None
    if tokens == 0:
        raise InvalidRequest(f"`{param}` must be at least 1, or -1 for as many tokens as the model takes.", param)
    return Truncation(None if tokens == -1 else tokens, "end" if side == "left" else "start", param)
