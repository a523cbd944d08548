"""Small tokenizer.json files of the kinds that models have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from mlx_server.workers.engine.loading.file_tokenizers import TEXTS

TRAINED_ON = [*TEXTS, "    return x", "the quick brown fox jumps over the lazy dog 2024", "สวัสดีครับ", "你好"] * 3
SPECIAL = ["<unk>", "<s>", "</s>", "<|turn|>"]
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def bytewise(folder: Path, split: str | None) -> None:
    """Write a byte-level tokenizer.json, as Llama 3 or Qwen have it (`split`), or GPT-2."""
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    tokenizer.pre_tokenizer = byte_level
    if split is not None:
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TRAINED_ON, trainer)
    finished(tokenizer, folder)


def pieced(folder: Path) -> None:
    """Write a tokenizer.json as SentencePiece's models become: Llama 2's, Gemma's."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([text.replace(" ", "▁") for text in TRAINED_ON], trainer)
    finished(tokenizer, folder)
    # Bytes are no special tokens, though they came first.
    whole = json.loads((folder / "tokenizer.json").read_text())
    whole["added_tokens"] = whole["added_tokens"][: len(SPECIAL)]
    (folder / "tokenizer.json").write_text(json.dumps(whole))


def finished(tokenizer: Any, folder: Path) -> None:
    """Save it with a token that begins all texts."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))


DIGITS_SPLIT = (
    r"\p{N}{1,3}|[一-龥぀-ゟ゠-ヿ]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+"
)
SINGLE_DIGITS_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def unigram(folder: Path) -> None:
    """Write a tokenizer.json with pieces and their likelihoods, as T5 and XLM-RoBERTa have it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(TRAINED_ON, trainer)
    finished(tokenizer, folder)


def word_pieces(folder: Path) -> None:
    """Write a tokenizer.json as BERT has it: lower case, no accents, pieces of words."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(TRAINED_ON, trainer)
    finished(tokenizer, folder)


FILES: dict[str, Callable[[Path], None]] = {
    "llama3": lambda folder: bytewise(folder, LLAMA3_SPLIT),
    "gpt2": lambda folder: bytewise(folder, None),
    "llama2": pieced,
}
"""Of models that write text, those whose classes are often named wrongly."""

ALL_FILES: dict[str, Callable[[Path], None]] = {
    **FILES,
    "qwen2": lambda folder: bytewise(folder, SINGLE_DIGITS_SPLIT),
    "deepseek": lambda folder: bytewise(folder, DIGITS_SPLIT),
    "unigram": unigram,
    "bert": word_pieces,
}
