"""The tokenizer's files that gguf2mlx has written, put right by what the GGUF file says of its vocabulary.

gguf2mlx 2.2 knows six pre-tokenizers and splits all others like one of them, with accents composed; it knows which
vocabularies begin a text with BOS, and which take whole words, for Llama 3's only; it marks as special no tokens that
end an answer but one; and none of its special tokens takes the spaces behind it along, as Phi-3's do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_server.workers.engine.from_gguf.splitting import Splitting, pre_tokenizer, splitting_of

BYTE_LEVEL = "gpt2"
"""`tokenizer.ggml.model` of the vocabularies that are split by patterns."""

ADD_BOS = "tokenizer.ggml.add_bos_token"

STRIPPING = ("phi-3", "phi3")
"""What the names of models contain whose special tokens take the spaces and line breaks behind them along
(llama-vocab.cpp: files do not say it of a token)."""

NOT_STRIPPING = ("<unk>", "<s>", "<|endoftext|>")
"""Their special tokens that do not."""


def put_right(folder: Path, metadata: Mapping[str, Any], endings: list[int]) -> list[str]:
    """Rewrite tokenizer.json and tokenizer_config.json; returns what there is to say."""
    path, settings_path = folder / "tokenizer.json", folder / "tokenizer_config.json"
    tokenizer, settings = read(path), read(settings_path)
    own, notes = is_own(tokenizer, metadata), list[str]()
    if metadata.get("tokenizer.ggml.model") == BYTE_LEVEL and not own:
        splitting, notes = splitting_of(metadata)
        tokenizer |= {"normalizer": None, "pre_tokenizer": pre_tokenizer(splitting)}
        tokenizer["model"] |= {"ignore_merges": splitting.whole_words}
        if begin(tokenizer, settings, splitting, metadata):
            write(settings_path, settings)
    mark_special(tokenizer, metadata, endings)
    if not own:
        strip_behind(tokenizer, metadata)
    write(path, tokenizer)
    return notes


def is_own(tokenizer: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    """Whether it is the model's own tokenizer.json, which the file carries."""
    carried = metadata.get("tokenizer.huggingface.json")
    try:
        return carried is not None and bool(json.loads(carried) == tokenizer)
    except ValueError:
        return False


def begin(
    tokenizer: dict[str, Any], settings: dict[str, Any], splitting: Splitting, metadata: Mapping[str, Any]
) -> bool:
    """Have texts begin with BOS where that is the vocabulary's habit and the metadata leaves it open."""
    bos = settings.get("bos_token")
    if not splitting.add_bos or ADD_BOS in metadata or settings.get("add_bos_token") or bos is None:
        return False
    settings["add_bos_token"] = True
    number = tokenizer["model"]["vocab"][bos]
    first = {"SpecialToken": {"id": bos, "type_id": 0}}
    ends = tokenizer.get("post_processor") or {}
    ended = ends if ends.get("type") == "TemplateProcessing" else {"special_tokens": {}}
    single = ended.get("single", [{"Sequence": {"id": "A", "type_id": 0}}])
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [first, *single],
        "pair": [first, *single, first, {"Sequence": {"id": "B", "type_id": 1}}, *single[1:]],
        "special_tokens": {**ended["special_tokens"], bos: {"id": bos, "ids": [number], "tokens": [bos]}},
    }
    return True


def mark_special(tokenizer: dict[str, Any], metadata: Mapping[str, Any], endings: list[int]) -> None:
    """Have the tokens that end an answer read from a prompt whole, and never written out."""
    added = {token["id"]: token for token in tokenizer["added_tokens"]}
    tokens = metadata["tokenizer.ggml.tokens"]
    for number in endings:
        token = added.setdefault(
            number, dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"id": number}
        )
        token |= {"content": token.get("content", tokens[number]), "special": True}
    tokenizer["added_tokens"] = [added[number] for number in sorted(added)]


def strip_behind(tokenizer: dict[str, Any], metadata: Mapping[str, Any]) -> None:
    """Have special tokens take the spaces behind them along where llama.cpp does."""
    if any(part in str(metadata.get("general.name", "")).lower() for part in STRIPPING):
        for token in tokenizer["added_tokens"]:
            token["rstrip"] = token["content"] not in NOT_STRIPPING


def read(path: Path) -> dict[str, Any]:
    """A JSON object."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def write(path: Path, content: Mapping[str, Any]) -> None:
    """In the place of what was there."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
