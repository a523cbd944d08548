"""Which tokens end an answer, as llama.cpp finds them (llama-vocab.cpp, `special_eog_ids`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PREFIX = "tokenizer.ggml."
NAMED = tuple(f"{PREFIX}{role}_token_id" for role in ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep"))
"""The keys that name one each."""

WRITTEN = (
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
    "[e~[",
)
"""Tokens that end an answer in whatever vocabulary they are."""

INFILL = {
    f"{PREFIX}fim_pad_token_id": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    f"{PREFIX}fim_rep_token_id": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    f"{PREFIX}fim_sep_token_id": ("<|file_sep|>",),
}
"""Tokens that end a text filled in between others, where no key names another."""

SECTIONS = tuple({end, call} for end in ("<|return|>", "<|flush|>") for call in ("<|call|>", "<|calls|>"))
"""In vocabularies with these, `<|end|>` ends a section of an answer."""


def endings(metadata: Mapping[str, Any], tokens: Sequence[str]) -> list[int]:
    """The ids of the tokens that end an answer, sorted."""
    ids = {text: number for number, text in enumerate(tokens)}
    found = {metadata[key] for key in NAMED if metadata.get(key, -1) in range(len(tokens))}
    found |= {ids[text] for text in WRITTEN if text in ids}
    for key, texts in INFILL.items():
        if key not in metadata:
            found |= {ids[text] for text in texts if text in ids}
    if any(both <= ids.keys() for both in SECTIONS):
        found.discard(ids.get("<|end|>", -1))
    if "<|tool_response>" in ids:
        found.discard(ids.get("</s>", -1))
    return sorted(found)
