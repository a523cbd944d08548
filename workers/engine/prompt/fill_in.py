"""Fill-in-the-middle prompts: the answer stands between a prompt and its suffix, for models that learned to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlx_server.schemas.internal.errors import InvalidRequest


@dataclass(frozen=True)
class FillInMarks:
    """The tokens round the parts. Without a `middle` the suffix comes first, as Codestral has it."""

    prefix: str
    suffix: str
    middle: str | None


KNOWN = (
    FillInMarks("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    FillInMarks("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    FillInMarks("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    FillInMarks("▁<PRE>", "▁<SUF>", "▁<MID>"),
    FillInMarks("<PRE>", "<SUF>", "<MID>"),
    FillInMarks("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # noqa: RUF001 - DeepSeek's own characters
    FillInMarks("[PREFIX]", "[SUFFIX]", None),
)


def fill_in(tokenizer: Any, prefix: str, suffix: str) -> list[int]:
    """The prompt's token ids. Raises InvalidRequest for a model that has no tokens for this."""
    vocabulary = tokenizer.get_vocab()
    marks = next((m for m in KNOWN if {m.prefix, m.suffix, m.middle or m.suffix} <= vocabulary.keys()), None)
    if marks is None:
        message = "`suffix` is not supported by this model: its vocabulary has no tokens for filling in the middle."
        raise InvalidRequest(message, "suffix")
    before = [vocabulary[marks.prefix], *tokenizer.encode(prefix, add_special_tokens=False)]
    after = [vocabulary[marks.suffix], *tokenizer.encode(suffix, add_special_tokens=False)]
    begin = tokenizer.encode("")[:1]
    start = begin if begin == [tokenizer.bos_token_id] else []
    if marks.middle is None:
        return [*start, *after, *before]
    return [*start, *before, *after, vocabulary[marks.middle]]
