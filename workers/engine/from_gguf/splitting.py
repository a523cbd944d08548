"""How a byte-level vocabulary's texts are split before merging, by `tokenizer.ggml.pre`.

The patterns are those of llama.cpp's pre-tokenizers (llama-vocab.cpp, `llm_tokenizer_bpe`), in which the files' makers
found them equal to the models' own or near to it. Each is applied to the pieces that those before it have left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHORT_FORMS = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = rf"{SHORT_FORMS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACES}"
QWEN2 = rf"{SHORT_FORMS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACES}"
QWEN35 = rf"{SHORT_FORMS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{SPACES}"
NOT_LOWER, NOT_UPPER = r"(?:(?=\p{L})[^a-z])", r"(?:(?=\p{L})[^A-Z])"
"""A letter other than those of ASCII: other alphabets' letters are either case."""

CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{NOT_LOWER}*{NOT_UPPER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{NOT_LOWER}+{NOT_UPPER}*"
OTHERS = rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}"
TEKKEN = rf"{CASED[0]}|{CASED[1]}|\p{{N}}{OTHERS}"
GPT4O = rf"{CASED[0]}{SHORT_FORMS}?|{CASED[1]}{SHORT_FORMS}?|\p{{N}}{{1,3}}{OTHERS}"
DEEPSEEK3 = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{SPACES}",
)
DEEPSEEK_CODER = (
    r"[\r\n]",
    r"\s?\p{L}+",
    r"\s?\p{P}+",
    "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
    r"\p{N}",
)
SEED_CODER = rf"{SHORT_FORMS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{SPACES}"
MINICPM5 = (
    r"\p{N}{1,3}",
    rf"{SHORT_FORMS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACES}",
)
WORDS = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
DEFAULT = (r"[\p{P}$+<=>\^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]")


@dataclass(frozen=True, slots=True)
class Splitting:
    """A pre-tokenizer. `whole_words`: a piece that is a token itself is not merged from its bytes. `add_bos`: where the
    metadata does not say."""

    patterns: tuple[str, ...]
    whole_words: bool = False
    add_bos: bool = False


SPLITTINGS = {
    name: splitting
    for names, splitting in (
        ("default", Splitting(DEFAULT)),
        ("llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2", Splitting((LLAMA3,), True, True)),
        ("glm4 chatglm-bpe dbrx smaug-bpe", Splitting((LLAMA3,))),
        ("qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2", Splitting((QWEN2,))),
        ("qwen35", Splitting((QWEN35,))),
        ("gpt-2 phi-2 gigachat a.x-4.0 mellum mpt olmo jais trillion exaone4", Splitting((GPT2,))),
        ("smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", Splitting((r"\p{N}", GPT2))),
        ("tekken", Splitting((TEKKEN,), True, True)),
        ("gpt-4o llama4 kanana2 talkie minimax-m2", Splitting((GPT4O,))),
        ("deepseek-v3 hunyuan-dense joyai-llm hy_v4", Splitting(DEEPSEEK3)),
        ("deepseek-coder", Splitting(DEEPSEEK_CODER)),
        ("seed-coder", Splitting((SEED_CODER,))),
        ("minicpm5", Splitting(MINICPM5, True)),
        ("falcon", Splitting((r"[\p{P}$+<=>\^~|`]+", GPT2, "[0-9][0-9][0-9]"))),
        ("poro-chat bloom gpt3-finnish", Splitting((WORDS,))),
        ("viking", Splitting((WORDS, r"\p{N}"))),
    )
    for name in names.split()
}
"""By the names that files have for them."""

SUBSTITUTE = SPLITTINGS["qwen2"]
"""For names that are not here; most vocabularies of these years are split much like that."""


def splitting_of(metadata: Mapping[str, Any]) -> tuple[Splitting, list[str]]:
    """The splitting that a file asks for, and what there is to say where it is not known."""
    name = metadata.get("tokenizer.ggml.pre")
    if not name:
        return SPLITTINGS["default"], [
            "the GGUF file does not say how its vocabulary splits texts (tokenizer.ggml.pre): answers may be worse"
        ]
    if name not in SPLITTINGS:
        return SUBSTITUTE, [
            f"how tokenizer.ggml.pre {name!r} splits texts is not known here: they are split like Qwen's, some become"
            " other tokens, and answers may be worse"
        ]
    return SPLITTINGS[name], []


def pre_tokenizer(splitting: Splitting) -> dict[str, Any]:
    """As tokenizer.json has it."""
    splits = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in splitting.patterns
    ]
    to_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [*splits, to_bytes]}
